"""Tokens of relying parties: shown once, stored as a hash."""

import hashlib
import re
from pathlib import Path

import pytest

from attestd import clock
from attestd.cli.options import duration
from attestd.services import tokens
from installation import attestd

pytest_plugins = ("installation",)


def create(place: Path, name: str = "gateway", *options: str) -> str:
    spoken = attestd("token", "create", name, "--scope", "trust:read", "-d", place, *options)
    assert spoken.exit_code == 0, spoken.stderr
    return spoken.stdout.strip()


def test_token_is_256_random_bits_in_the_form_that_the_verifier_accepts(installation: Path) -> None:
    made = {create(installation) for _ in range(4)}
    assert len(made) == 4
    assert all(re.fullmatch(r"attestd_[A-Za-z0-9_-]{43}", token) for token in made)


def test_t09_only_the_hash_of_a_token_is_stored(installation: Path) -> None:
    token = create(installation)
    stored = b"".join(path.read_bytes() for path in installation.rglob("*") if path.is_file())
    assert token.encode() not in stored
    assert token.removeprefix("attestd_").encode() not in stored
    assert hashlib.sha256(token.encode()).digest() in stored


def test_list_shows_everything_but_the_token(installation: Path) -> None:
    token = create(installation, "gateway", "--site", "north", "--expires", "30d")
    spoken = attestd("token", "list", "-d", installation, "--json")
    (line,) = spoken.document["tokens"]
    assert (line["name"], line["site"], line["scopes"], line["status"]) == ("gateway", "north", ["trust:read"], "valid")
    assert line["expires_at"] - line["created_at"] == 30 * 86_400
    assert token not in attestd("token", "list", "-d", installation).stdout


def test_revoked_token_is_listed_as_revoked(installation: Path) -> None:
    create(installation)
    assert attestd("token", "revoke", "gateway", "-d", installation, "--json").document["revoked"] == 1
    spoken = attestd("token", "list", "-d", installation, "--json")
    assert [line["status"] for line in spoken.document["tokens"]] == ["revoked"]


def test_expired_token_is_listed_as_expired(installation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(installation, "gateway", "--expires", "90s")
    now = clock.now_ms()
    monkeypatch.setattr("attestd.clock.now_ms", lambda: now + 91_000)
    spoken = attestd("token", "list", "-d", installation, "--json")
    assert [line["status"] for line in spoken.document["tokens"]] == ["expired"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["create", "gateway", "--scope", "everything"], "token-scope"),
        (["create", "Gate way", "--scope", "trust:read"], "token-name"),
        (["create", "gateway", "--scope", "trust:read", "--site", "\x1b[31m"], "token-site"),
        (["revoke", "nobody"], "token-unknown"),
    ],
)
def test_wrong_request_is_refused_with_one_line(installation: Path, arguments: list[str], code: str) -> None:
    spoken = attestd("token", *arguments, "-d", installation)
    assert (spoken.exit_code, spoken.error) == (1, code)
    assert "\x1b" not in spoken.stderr
    assert attestd("token", "list", "-d", installation, "--json").document == {"tokens": []}


@pytest.mark.parametrize("text", ["30", "d", "0d", "-1d", "1w", "1.5h", "99999999s", "3651d"])
def test_span_that_is_not_one_is_wrong_usage(installation: Path, text: str) -> None:
    spoken = attestd("token", "create", "gateway", "--scope", "trust:read", "--expires", text, "-d", installation)
    assert spoken.exit_code == 2


def test_spans_are_read() -> None:
    assert [duration(text, option="--expires") for text in ("90s", "15m", "12h", "30d")] == [90, 900, 43_200, 2_592_000]


def test_every_scope_has_a_meaning() -> None:
    assert tokens.SCOPES
    assert all(tokens.SCOPES.values())
