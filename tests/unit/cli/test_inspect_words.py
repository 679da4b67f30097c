"""What people read first: a refusal says why in its first lines, and a word means what it says."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from attestd.cli.main import app
from inspecting import inspect, shown
from testdata import TESTDATA, needs_testdata

pytestmark = [needs_testdata, pytest.mark.testdata]

GOOD, TAMPERED = TESTDATA / "vm/good-1", TESTDATA / "vm/tampered-cmdline"


def test_registers_that_the_log_does_not_lead_to_are_named_under_the_verdict() -> None:
    code, text = shown("eventlog", GOOD / "eventlog.bin", "--pcrs", TAMPERED / "pcrs.json")
    assert code == 1
    assert "REFUSED" in text.splitlines()[0]
    assert "sha256 4, sha256 9, sha256 11" in text.splitlines()[1]


def test_registers_that_the_log_leads_to_get_no_such_line() -> None:
    code, text = shown("eventlog", GOOD / "eventlog.bin", "--pcrs", GOOD / "pcrs.json")
    assert code == 0
    assert "does not lead to" not in text


def test_a_token_is_called_a_token_and_a_result_a_result() -> None:
    _, token = shown("ear", TESTDATA / "eat/ietf-example/eat__Example-Payloads__simple.json")
    _, result = shown("ear", TESTDATA / "eat/ear-jwt/ear__ear_jwt_0.jwt")
    assert "PARSED  token (json)" in token
    assert "ACCEPTED  attestation result (jwt)" in result


def test_what_is_no_runtime_list_has_no_registers_to_show(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("nothing of this kind\n")
    code, text = shown("ima", file)
    assert code == 1
    assert "registers hold" not in text


def test_yamls_own_marks_are_no_part_of_what_an_event_says() -> None:
    _, document = inspect("eventlog", GOOD / "eventlog.yaml")
    said = [event["summary"] for event in document["events"]]
    assert "Calling EFI Application from Boot Option" in said
    assert not any("|-" in text for text in said)


def test_wrong_usage_names_the_option_that_is_wrong() -> None:
    leaf = TESTDATA / "cert/ek/HIRS__STM_07d685f939.der"
    code, text = shown("ek", leaf, "--at", "yesterday")
    assert code == 2
    assert "'--at'" in text
    log = CliRunner().invoke(app, ["log", "--since", "yesterday"])
    assert log.exit_code == 2
    assert "'--since'" in log.output


def test_one_change_is_one_change() -> None:
    _, text = shown("diff", GOOD, TESTDATA / "vm/tampered-file")
    assert "1 change, PCR 10 differs" in text


def test_a_boot_log_in_place_of_a_manifest_is_told_where_it_belongs(tmp_path: Path) -> None:
    log = TESTDATA / "rim/rimel/HIRS__rims__laptop_badOemInstall_oem.1.rimel"
    done = CliRunner().invoke(app, ["profile", "import", str(log), "-o", str(tmp_path / "p.yaml"), "--unsigned"])
    assert done.exit_code == 1
    assert log.name in done.output
    assert "--support-log" in done.output
