"""The same command line on SQLite and on PostgreSQL."""

from pathlib import Path

import pytest

from fleet import Fleet, anchored
from installation import attestd

pytest_plugins = ("fleet", "postgres")


@pytest.fixture
def here(empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """A fleet whose database is named by the environment alone."""
    place = tmp_path / "fleet"
    monkeypatch.setenv("ATTESTD_DATABASE", empty_database_url.replace("//attestd@", "//attestd:not-in-a-file@"))
    spoken = attestd("init", "-d", place, "--json")
    if spoken.exit_code:
        pytest.fail(spoken.stderr)
    return anchored(place)


def test_init_migrates_the_database_and_keeps_its_password_out_of_the_file(here: Fleet) -> None:
    assert here.done("migrate")["schema"]
    assert "not-in-a-file" not in (here.place / "attestd.toml").read_text()
    assert here.done("check")["safe"]


def test_device_comes_in_is_banned_and_is_on_the_list(here: Fleet) -> None:
    here.activate(here.chip())
    chip = here.trusted()
    assert here.trust(chip).trusted
    serial = here.done("device", "show", "edge-1")["certificates"][0]["serial"]
    here.done("device", "ban", "edge-1", "--reason", "stolen")
    assert here.revoked() == {serial}
    assert [move["event"] for move in here.done("device", "history", "edge-1")["history"]] == ["banned", "enrolled"]
    assert here.attestd("log").stdout.count("banned") == 2
