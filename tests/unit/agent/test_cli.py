"""The command line: what it prints, what it ends with, and how little `run` loads."""

import base64
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_world import GATEWAY_KEY, PCRS, SoftTpm, SoftVerifier
from attestd.changes.inventory import parse_csv, parse_json
from attestd.protocol.messages import Finding
from attestd_agent import authoring, cli, commands, keyfile
from attestd_agent.errors import ExitCode, Problem, Unreachable
from attestd_agent.journal import Journal
from attestd_agent.record import Record
from attestd_agent.tpm import KeyBlob, TpmRefused, TpmUnavailable
from testdata import TESTDATA, needs_testdata

Run = Callable[..., int]


@pytest.fixture
def tpm(monkeypatch: pytest.MonkeyPatch) -> SoftTpm:
    made = SoftTpm()
    monkeypatch.setattr(commands, "EsysTpm", lambda _tcti: made)
    return made


@pytest.fixture
def verifier(monkeypatch: pytest.MonkeyPatch) -> SoftVerifier:
    made = SoftVerifier()
    monkeypatch.setattr(commands, "connect", lambda _settings, _store: made)
    return made


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def command(tpm: SoftTpm, verifier: SoftVerifier, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on a device of software; its settings are in the environment, as a service's are."""
    (tmp_path / "log").write_bytes(b"the boot log")
    monkeypatch.setenv("ATTESTD_AGENT_SERVER", "https://verifier.example")
    monkeypatch.setenv("ATTESTD_AGENT_ANCHOR", str(tmp_path / "anchor.pem"))
    monkeypatch.setenv("ATTESTD_AGENT_STATE_DIRECTORY", str(state))
    monkeypatch.setenv("ATTESTD_AGENT_EVENT_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("ATTESTD_AGENT_IMA_LIST", str(tmp_path / "none"))
    return lambda *words: cli.execute(list(words))


def said(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return the one JSON document on standard output."""
    return json.loads(capsys.readouterr().out)


# --- Exit codes ---


def test_enrolment_ends_with_0(command: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("enroll", "--json") == ExitCode.TRUSTED
    document = said(capsys)
    assert (document["trusted"], document["outcome"]) == (True, "trusted")


def test_enrolment_of_an_enrolled_device_proves_it(command: Run, verifier: SoftVerifier) -> None:
    assert command("enroll") == command("enroll") == ExitCode.TRUSTED
    assert len(verifier.requests) == 3


def test_enrolment_again_makes_new_keys(command: Run, verifier: SoftVerifier) -> None:
    command("enroll")
    assert command("enroll", "--again") == ExitCode.TRUSTED
    assert verifier.requests[0].device_key != verifier.requests[2].device_key


def test_enrolment_regains_trust_that_ended(command: Run, verifier: SoftVerifier) -> None:
    command("enroll")
    verifier.script.append(verifier.problem("enrolment-needed", status=403))
    assert command("enroll") == ExitCode.TRUSTED


def test_attestation_ends_with_0(command: Run) -> None:
    command("enroll")
    assert command("attest") == ExitCode.TRUSTED


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Problem(403, "evidence-refused", "t"), ExitCode.REFUSED),
        (Problem(403, "device-banned", "t"), ExitCode.REFUSED),
        (Problem(403, "device-unannounced", "t"), ExitCode.WAITING),
        (Problem(503, "server-busy", "t"), ExitCode.UNREACHABLE),
        (Unreachable("gone"), ExitCode.UNREACHABLE),
    ],
)
def test_every_refusal_has_its_exit_code(
    command: Run, verifier: SoftVerifier, answer: Problem | Exception, code: ExitCode
) -> None:
    verifier.script.append(answer)
    assert command("enroll") == code
    assert command("status") == code


@pytest.mark.parametrize("error", [TpmUnavailable("gone"), TpmRefused("locked_out", "no")])
def test_failing_tpm_ends_with_4(command: Run, tpm: SoftTpm, error: Exception) -> None:
    tpm.failure = error
    for words in (["enroll"], ["identity"], ["quote", "--json"]):
        assert command(*words) == ExitCode.TPM


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["enroll", "--nonsense"],
        ["run", "now"],
        ["--server"],
        ["enroll", "--server", "http://verifier.example"],
        ["enroll", "--config", "/nonexistent"],
        ["run", "--anchor-fingerprint", "00"],
        ["quote"],
        ["quote", "--json", "--pcrs", "24"],
        ["quote", "--json", "--pcrs", "x"],
        ["quote", "--json", "--pcrs", "7-3"],
        ["quote", "--json", "--nonce", "xy"],
        ["quote", "--json", "--nonce", "00" * 65],
    ],
)
def test_wrong_usage_ends_with_2_and_a_sentence(
    command: Run, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*words) == ExitCode.USAGE
    captured = capsys.readouterr()
    assert captured.err or json.loads(captured.out)["error"]
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("words", [["attest"], ["wireguard"]])
def test_command_that_needs_an_enrolment_ends_with_1(command: Run, words: list[str]) -> None:
    assert command(*words) == ExitCode.REFUSED


def test_error_is_json_where_json_was_asked_for(command: Run, capsys: pytest.CaptureFixture[str]) -> None:
    command("attest", "--json")
    document = said(capsys)
    assert document["exit_code"] == ExitCode.REFUSED
    assert "enroll" in document["error"]


def test_state_directory_that_others_can_write_to_is_refused(command: Run, state: Path) -> None:
    state.mkdir()
    state.chmod(0o777)
    assert command("enroll") == ExitCode.USAGE


def test_settings_may_stand_anywhere() -> None:
    line = cli.take_apart(["--tcti=x", "quote", "--json", "--server", "https://v", "-o", "there"])
    assert line.flags == {"tcti": "x", "server": "https://v"}
    assert (line.as_json, line.rest) == (True, ("quote", "-o", "there"))


# --- What commands say ---


def test_status_shows_what_holds_until_when(command: Run, capsys: pytest.CaptureFixture[str]) -> None:
    command("enroll")
    capsys.readouterr()
    assert command("status", "--json") == ExitCode.TRUSTED
    document = said(capsys)
    assert document["trusted"] is True
    assert document["addresses"] == ["100.64.0.7/32"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["deadline"])


def test_p05_status_of_a_device_that_fell_silent_is_not_trusted(
    command: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command("enroll")
    monkeypatch.setattr("time.time", lambda: 4_000_000_000.0)
    capsys.readouterr()
    assert command("status", "--json") == ExitCode.REFUSED
    document = said(capsys)
    assert document["trusted"] is False
    assert "too old" in document["detail"]


def test_status_of_a_new_device_is_not_trusted(command: Run) -> None:
    assert command("status") == ExitCode.REFUSED


def test_findings_are_shown_and_terminal_escapes_are_not_obeyed(
    command: Run, verifier: SoftVerifier, capsys: pytest.CaptureFixture[str]
) -> None:
    finding = Finding("claim-mismatch", "kernel", "evil\x1b[2J [bold]x", "a kernel that the profile lists", 9, 41)
    verifier.script.append(Problem(403, "evidence-refused", "t", findings=(finding,)))
    command("enroll")
    shown = " ".join(capsys.readouterr().out.split())
    assert "claim=kernel" in shown
    assert "event=41" in shown
    assert "\x1b" not in shown
    assert "[bold]x" in shown


def test_identity_agrees_with_what_enrols(
    command: Run, verifier: SoftVerifier, capsys: pytest.CaptureFixture[str]
) -> None:
    command("enroll")
    capsys.readouterr()
    assert command("identity", "--json") == 0
    assert said(capsys)["device_id"] == next(iter(verifier.keys))


def test_digest_of_the_endorsement_key_is_shown_on_one_line(command: Run, capsys: pytest.CaptureFixture[str]) -> None:
    command("identity", "--json")
    document = said(capsys)

    command("identity")

    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in shown if line.startswith("ek public sha256")] == [document["ek_public_sha256"]]


@pytest.mark.parametrize("as_json", [False, True])
def test_inventory_row_is_one_that_the_verifier_reads(
    command: Run, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    command("identity", "--json")
    device_id = said(capsys)["device_id"]
    command("identity", "--inventory", "--site", "harbour", "--profile", "edge", *(["--json"] if as_json else []))
    (entry,) = (parse_json if as_json else parse_csv)(capsys.readouterr().out)
    assert (entry.device_id, entry.site, entry.profile) == (device_id, "harbour", "edge")


@pytest.mark.parametrize("host", ["Gate 7.local", "--x--", "ГЕЙТ-1", "a" * 80])
def test_name_of_the_host_becomes_a_label(host: str) -> None:
    document = {"ek_public_sha256": "00" * 32, "hostname": host, "manufacturer": "IFX"}
    row = authoring.inventory_row(document, name="", site="s", profile="p")
    assert re.fullmatch(r"(?:[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?)?", row["name"])


def test_quote_writes_an_evidence_directory(command: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "evidence"
    assert command("quote", "-o", str(place), "--pcrs", "0-7,10", "--nonce", "00" * 20) == 0
    names = {path.name for path in place.iterdir()}
    expected = (
        "quote.attest quote.sig ak.tpm2b_public ek.tpm2b_public nonce.bin pcrs.json eventlog.bin ima.bin nv_0.der"
    )
    assert names == set(expected.split())
    assert (place / "nonce.bin").read_bytes() == bytes(20)
    assert bytes(20) in (place / "quote.attest").read_bytes()
    assert list(json.loads((place / "pcrs.json").read_text())["sha256"]) == [str(index) for index in PCRS]
    assert command("quote", "-o", str(place)) == ExitCode.USAGE, "nothing is overwritten"


def test_quote_prints_everything_as_json(command: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("quote", "--json") == 0
    document = said(capsys)
    assert base64.b64decode(document["eventlog.bin"]) == b"the boot log"
    assert len(base64.b64decode(document["nonce.bin"])) == 32


@needs_testdata
@pytest.mark.testdata
def test_evidence_directory_is_read_like_the_ones_of_real_machines(command: Run, tmp_path: Path) -> None:
    real = {path.name for path in (TESTDATA / "vm" / "good-1").iterdir()}
    command("quote", "-o", str(tmp_path / "evidence"))
    made = {path.name for path in (tmp_path / "evidence").iterdir() if not path.name.startswith("nv_")}
    assert made <= real


def test_wireguard_prints_the_whole_configuration(
    command: Run, tpm: SoftTpm, capsys: pytest.CaptureFixture[str]
) -> None:
    command("enroll")
    capsys.readouterr()
    assert command("wireguard") == 0
    shown = capsys.readouterr().out
    assert f"PrivateKey = {base64.b64encode(tpm.sealed[0]).decode()}\n" in shown
    assert f"PublicKey = {GATEWAY_KEY}\n" in shown


def test_t09_wireguard_file_is_private_from_its_first_moment(
    command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("enroll")
    target = tmp_path / "wg0.conf"
    target.write_text("old")
    target.chmod(0o644)
    modes = []
    replace = os.replace

    def look(source: Path, destination: Path) -> None:
        modes.append(stat.S_IMODE(os.stat(source).st_mode))
        replace(source, destination)

    monkeypatch.setattr(os, "replace", look)
    assert command("wireguard", "-o", str(target)) == 0
    assert modes == [0o600]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert "PrivateKey" in target.read_text()


def test_c06_public_configuration_has_no_key(command: Run, tpm: SoftTpm, capsys: pytest.CaptureFixture[str]) -> None:
    command("enroll")
    capsys.readouterr()
    tpm.failure = TpmUnavailable("not needed")
    assert command("wireguard", "--public") == 0
    assert "PrivateKey" not in capsys.readouterr().out


def test_version_is_told(command: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("version", "--json") == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", said(capsys)["version"])


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["enroll", "--help"], ["quote", "--help"]])
def test_help_is_help(command: Run, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*words) == 0
    assert "Usage" in capsys.readouterr().out


def test_help_names_every_setting_and_exit_code(command: Run, capsys: pytest.CaptureFixture[str]) -> None:
    command("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert all(name in shown for name in ("--server", "--anchor-fingerprint", "ATTESTD_AGENT_TCTI", "--json"))
    assert "0 this device is trusted" in shown


def test_manufacturer_is_read_out_of_a_certificate() -> None:
    def san(text: bytes) -> bytes:
        return b"junk\x06\x05\x67\x81\x05\x02\x01\x0c" + bytes([len(text)]) + text + b"junk"

    assert authoring.manufacturer(san(b"id:49465800")) == "IFX"
    assert authoring.manufacturer(san(b"id:00001014")) == "id:00001014"
    assert authoring.manufacturer(b"nothing") == ""


# --- Lines and files ---


def test_journal_writes_one_line_and_quotes_what_others_said(capsys: pytest.CaptureFixture[str]) -> None:
    Journal(sys.stdout, as_json=False, stamped=False)(
        "refused", code="x-y", detail="two\nlines \x1b[2J", empty="", none=None
    )
    assert capsys.readouterr().out == 'refused code=x-y detail="two\\nlines \\u001b[2J"\n'


def test_journal_writes_json(capsys: pytest.CaptureFixture[str]) -> None:
    Journal(sys.stdout, as_json=True, stamped=False)("refused", path=Path("/x"), again_in=2.5)
    document = said(capsys)
    assert (document["event"], document["path"], document["again_in"]) == ("refused", "/x", 2.5)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl missing")
def test_key_reference_is_the_der_that_openssl_reads(tmp_path: Path) -> None:
    key = KeyBlob(b"\x00\x56" + bytes(0x56), b"\x01\x40" + bytes(0x140))
    (tmp_path / "key.pem").write_text(keyfile.key_reference(key))
    command = ["openssl", "asn1parse", "-in", str(tmp_path / "key.pem")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"prim: +(OBJECT|BOOLEAN|INTEGER|OCTET STRING) +:?([\d.A-F]*)", shown)[:3] == [
        ("OBJECT", "2.23.133.10.1.3"),
        ("BOOLEAN", "255"),
        ("INTEGER", "40000001"),
    ]
    assert [int(size) for size in re.findall(r"l= *(\d+) prim: OCTET", shown)] == [0x58, 0x142]


# --- What a device pays ---


def test_service_loads_neither_typer_nor_rich() -> None:
    program = (
        "import sys\n"
        "from attestd_agent import attempt, cli, journal, proof, record, run, tpm_esys\n"
        "print([name for name in ('typer', 'rich', 'tpm2_pytss', 'cryptography.x509') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_verdict_file_that_is_damaged_is_no_verdict(state: Path) -> None:
    store = Record(state, None)
    for content in (
        b"",
        b"[]",
        b"{}",
        b'{"verdict": 5}',
        b'{"verdict": {"outcome": "x", "findings": []}}',
        b"\xff" * 9,
    ):
        (state / "verdict.json").write_bytes(content)
        assert store.verdict() is None
