"""The agent as a whole, over a TPM and a verifier of software: what it sends, keeps, reports, and survives."""

import base64
import hashlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tpm_structures
from agent_world import PCRS, SERVER, SoftTpm, SoftVerifier
from attestd.protocol.codec import CBOR, decode, encode
from attestd.protocol.messages import AttestRequest, EnrolProof, EnrolRequest, Finding
from attestd_agent import keystore, run
from attestd_agent.attempt import Agent, Attempt
from attestd_agent.client import Server
from attestd_agent.errors import ExitCode, Problem, Unreachable, UntrustedServer
from attestd_agent.machine import Memory, Outcome, Started, State, TimerFired
from attestd_agent.proof import Sources
from attestd_agent.record import Record
from attestd_agent.tpm import TpmRefused, TpmUnavailable

LOG = b"boot log " * 4000


def ima_entry(path: str) -> bytes:
    """Return one entry of a runtime list."""
    return tpm_structures.ima_entry(path.encode())


class Device:
    """One device of a test: its TPM, its files, its agent."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tpm = SoftTpm()
        self.verifier = SoftVerifier()
        self.sources = Sources(directory / "eventlog", directory / "ima")
        self.sources.event_log.write_bytes(LOG)
        self.lines: list[str] = []
        self.now = 1_800_000_000.0
        self.server = Server(SERVER, 443)
        self.agent = self.start()
        self.memory = Memory()

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def start(self) -> Agent:
        self.store = Record(self.state, self.server)
        return Agent(
            SERVER,
            self.tpm,
            self.store,
            sources=self.sources,
            transport=lambda: self.verifier,
            log=self.log,
            clock=lambda: self.now,
            draw=lambda: 0.5,
        )

    def log(self, event: str, /, **fields: object) -> None:
        self.lines.append(f"{event} {fields}")

    def begin(self) -> Attempt:
        return self._follow(self.agent.attempt(Memory(), self.agent.begin()))

    def again(self) -> Attempt:
        return self._follow(self.agent.attempt(self.memory, TimerFired()))

    def restart(self) -> Attempt:
        self.agent = self.start()
        return self.begin()

    def measure(self, *names: str) -> None:
        with self.sources.ima_list.open("ab") as file:
            for name in names:
                file.write(ima_entry(name))
        self.tpm.registers[10] = hashlib.sha256(self.sources.ima_list.read_bytes()).digest()

    def reboot(self) -> None:
        self.tpm.resets += 1
        self.sources.ima_list.unlink(missing_ok=True)

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.state.iterdir()}

    def _follow(self, attempt: Attempt) -> Attempt:
        self.memory = attempt.memory
        return attempt


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


@pytest.fixture
def enrolled(device: Device) -> Device:
    assert device.begin().report.outcome is Outcome.TRUSTED
    device.verifier.requests.clear()
    return device


# --- Enrolment ---


def test_device_enrols_with_bound_proofs_and_rests(device: Device) -> None:
    attempt = device.begin()
    assert (attempt.report.outcome, attempt.memory.state) == (Outcome.TRUSTED, State.ENROLLED)
    assert [type(request) for request in device.verifier.requests] == [EnrolRequest, EnrolProof]


def test_proof_carries_the_request_byte_for_byte_the_log_and_the_quoted_registers(device: Device) -> None:
    device.begin()
    request, proof = device.verifier.requests
    assert decode(EnrolRequest, proof.request, CBOR) == request
    assert encode(request, CBOR) == proof.request
    assert proof.event_log == LOG
    assert [value.index for value in proof.pcrs] == list(PCRS)


def test_enrolment_outlives_a_restart(enrolled: Device) -> None:
    assert enrolled.restart().report.outcome is Outcome.TRUSTED
    assert [type(request) for request in enrolled.verifier.requests] == [AttestRequest]


def test_enrolment_at_another_verifier_does_not_count(enrolled: Device) -> None:
    enrolled.server = Server("other.example", 443)
    enrolled.agent = enrolled.start()
    assert enrolled.agent.begin().nonce is None


def test_certificate_is_written_with_its_key_reference(enrolled: Device) -> None:
    pem = (enrolled.state / "device.pem").read_text()
    assert pem.count("BEGIN CERTIFICATE") == 2
    assert pem.count("BEGIN TSS2 PRIVATE KEY") == 1


def test_every_file_is_private(enrolled: Device) -> None:
    enrolled.again()
    assert stat.S_IMODE(enrolled.state.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in enrolled.state.iterdir()} == {0o600}


def test_t09_tunnel_key_and_token_are_on_no_disk_and_in_no_log_line(enrolled: Device) -> None:
    enrolled.again()
    (private,) = enrolled.tpm.sealed
    forms = (private, private.hex().encode(), base64.b64encode(private), base64.urlsafe_b64encode(private).rstrip(b"="))
    places = [*enrolled.files().values(), "\n".join(enrolled.lines).encode()]
    assert not any(form in place for form in (*forms, b"jwt") for place in places)


def test_c06_tunnel_key_is_in_no_message(enrolled: Device) -> None:
    enrolled.verifier.script.append(enrolled.verifier.problem("enrolment-needed"))
    enrolled.again()
    enrolled.again()
    sent = b"".join(encode(request, CBOR) for request in enrolled.verifier.requests)
    assert len(enrolled.tpm.sealed) == 2
    assert not any(private in sent for private in enrolled.tpm.sealed)


def test_enrolment_of_another_device_is_not_taken_for_ones_own(device: Device) -> None:
    enrol = device.verifier.enrol
    device.verifier.enrol = lambda proof: replace(enrol(proof), device_id="a" * 52)  # type: ignore[method-assign]
    assert device.begin().report.outcome is Outcome.UNREACHABLE
    assert device.store.load() is None


def test_request_that_waits_for_a_person_keeps_its_keys(device: Device) -> None:
    device.verifier.script += [device.verifier.problem("device-unannounced", status=403, retry_after=30)] * 2
    assert device.begin().report.outcome is Outcome.WAITING
    device.again()
    first, second = device.verifier.requests
    assert first.device_key == second.device_key
    assert first.vpn_keys == second.vpn_keys


def test_request_leaves_out_certificates_that_do_not_fit(device: Device) -> None:
    device.tpm.ek_certificates = lambda: tuple(bytes([number]) * 8000 for number in range(8))  # type: ignore[method-assign]
    device.begin()
    sent = device.verifier.requests[0].ek_certificates
    assert sent == tuple(bytes([number]) * 8000 for number in range(len(sent)))
    assert 0 < len(sent) < 8
    assert device.verifier.sizes[0] <= 32 * 1024


# --- Proofs ---


def test_routine_proof_is_small_and_sends_no_more_than_changed(enrolled: Device) -> None:
    enrolled.again()
    request = enrolled.verifier.last
    assert (request.pcrs, request.event_log, request.runtime, request.rebooted) == ((), None, None, False)
    assert request.log == hashlib.sha256(LOG).digest()
    assert enrolled.verifier.sizes[-1] <= 600


def test_changed_register_is_sent_once(enrolled: Device) -> None:
    enrolled.tpm.registers[7] = b"\x77" * 32
    enrolled.again()
    assert {value.index: value.value for value in enrolled.verifier.last.pcrs}[7] == b"\x77" * 32
    enrolled.again()
    assert enrolled.verifier.last.pcrs == ()


def test_reboot_is_announced_with_everything(enrolled: Device) -> None:
    enrolled.reboot()
    enrolled.sources.event_log.write_bytes(b"another log")
    enrolled.again()
    request = enrolled.verifier.last
    assert (request.rebooted, request.event_log, len(request.pcrs)) == (True, b"another log", len(PCRS))
    assert request.log == hashlib.sha256(b"another log").digest()
    enrolled.again()
    assert (enrolled.verifier.last.rebooted, enrolled.verifier.last.event_log) == (False, None)


def test_reboot_that_was_not_accepted_is_announced_again(enrolled: Device) -> None:
    enrolled.reboot()
    enrolled.verifier.script.append(Unreachable("gone"))
    enrolled.again()
    enrolled.again()
    assert enrolled.verifier.last.rebooted


def test_runtime_list_is_continued(enrolled: Device) -> None:
    enrolled.measure("/bin/a", "/bin/b")
    enrolled.again()
    assert enrolled.verifier.last.runtime.offset == 0
    enrolled.measure("/bin/c")
    enrolled.again()
    runtime = enrolled.verifier.last.runtime
    assert (runtime.offset, runtime.entries) == (2, ima_entry("/bin/c"))


def test_runtime_list_starts_over_after_a_reboot(enrolled: Device) -> None:
    enrolled.measure("/bin/a", "/bin/b")
    enrolled.again()
    enrolled.reboot()
    enrolled.measure("/bin/x", "/bin/y", "/bin/z")
    enrolled.again()
    runtime = enrolled.verifier.last.runtime
    assert (runtime.offset, runtime.entries) == (0, b"".join(map(ima_entry, ("/bin/x", "/bin/y", "/bin/z"))))


def test_quote_is_taken_again_while_the_runtime_list_grows(enrolled: Device) -> None:
    enrolled.measure("/bin/a")
    growth = iter(["/bin/b"])

    def grow() -> None:
        for name in growth:
            enrolled.measure(name)
            return

    enrolled.tpm.on_quote = grow
    enrolled.again()
    request = enrolled.verifier.last
    assert request.runtime.entries == ima_entry("/bin/a") + ima_entry("/bin/b")
    assert {value.index: value.value for value in request.pcrs}[10] == enrolled.tpm.registers[10]


@pytest.mark.parametrize(
    ("code", "holds"),
    [
        ("log-needed", lambda request: request.event_log == LOG),
        ("pcr-values-needed", lambda request: len(request.pcrs) == len(PCRS)),
        ("runtime-needed", lambda request: request.runtime.offset == 0 and request.runtime.entries),
        ("tpm-reset-unannounced", lambda request: request.rebooted and request.event_log == LOG and request.pcrs),
        ("nonce-expired", lambda request: True),
    ],
)
def test_what_the_verifier_lacks_is_sent_at_once_over_its_nonce(
    enrolled: Device, code: str, holds: Callable[[Any], bool]
) -> None:
    enrolled.measure("/bin/a")
    enrolled.again()
    needed = enrolled.verifier.problem(code, nonce=True)
    enrolled.verifier.script.append(needed)
    assert enrolled.again().report.outcome is Outcome.TRUSTED
    assert enrolled.verifier.last.nonce == needed.nonce
    assert holds(enrolled.verifier.last)


def test_p05_ended_trust_is_regained_with_new_keys(enrolled: Device) -> None:
    old = decode_request(enrolled)
    enrolled.verifier.script.append(enrolled.verifier.problem("enrolment-needed", status=403))
    attempt = enrolled.again()
    assert attempt.forgotten
    assert {"state.json", "device.pem"}.isdisjoint(enrolled.files())
    assert enrolled.again().report.outcome is Outcome.TRUSTED
    new = decode_request(enrolled)
    assert (new.device_key, new.vpn_keys) != (old.device_key, old.vpn_keys)
    assert new.device_key != old.device_key
    assert new.vpn_keys != old.vpn_keys
    assert new.ak_public == old.ak_public


def decode_request(device: Device) -> EnrolRequest:
    (request,) = device.verifier.keys.values()
    return request


# --- What goes wrong ---


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Unreachable("gone"), Outcome.UNREACHABLE),
        (UntrustedServer("another certificate"), Outcome.UNREACHABLE),
    ],
)
def test_absent_verifier_is_reported_and_survived(enrolled: Device, error: Exception, outcome: Outcome) -> None:
    enrolled.verifier.script.append(error)
    attempt = enrolled.again()
    assert (attempt.report.outcome, attempt.report.detail) == (outcome, str(error))
    assert attempt.seconds >= 2
    assert enrolled.again().report.outcome is Outcome.TRUSTED


@pytest.mark.parametrize("error", [TpmUnavailable("busy"), TpmRefused("locked_out", "locked out")])
def test_failing_tpm_is_reported_and_survived(enrolled: Device, error: Exception) -> None:
    enrolled.tpm.failure = error
    assert enrolled.again().report.outcome is Outcome.TPM_FAILED
    enrolled.tpm.failure = None
    assert enrolled.again().report.outcome is Outcome.TRUSTED


def test_unreadable_log_is_reported_and_survived(device: Device) -> None:
    device.sources.event_log.unlink()
    device.sources.event_log.mkdir()
    attempt = device.begin()
    assert attempt.report.outcome is Outcome.TPM_FAILED
    assert "eventlog" in attempt.report.detail


def test_absent_log_is_no_error(device: Device) -> None:
    device.sources.event_log.unlink()
    assert device.begin().report.outcome is Outcome.TRUSTED
    assert device.verifier.last.event_log == b""


def test_damaged_state_leads_to_a_new_enrolment(enrolled: Device) -> None:
    (enrolled.state / "state.json").write_text("{")
    attempt = enrolled.restart()
    assert attempt.report.outcome is Outcome.TRUSTED
    assert type(enrolled.verifier.requests[0]) is EnrolRequest


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff", b'{"quote": {"key": "00", "bank": "sha256", "pcrs": [0]}}']
)
def test_state_without_its_selection_leads_to_a_new_enrolment(enrolled: Device, content: bytes) -> None:
    (enrolled.state / "verdict.json").write_bytes(content)
    assert enrolled.restart().report.outcome is Outcome.TRUSTED
    assert type(enrolled.verifier.requests[0]) is EnrolRequest


def test_state_that_vanished_under_a_running_agent_costs_nothing(enrolled: Device) -> None:
    (enrolled.state / "state.json").unlink()
    assert enrolled.again().report.outcome is Outcome.TRUSTED
    assert type(enrolled.verifier.last) is AttestRequest


def test_full_disk_does_not_cost_trust(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise keystore.KeystoreRefused("no_space", "no space left on device")

    monkeypatch.setattr(keystore.Keystore, "save", full)
    assert device.begin().report.outcome is Outcome.TRUSTED
    for _ in range(3):
        assert device.again().report.outcome is Outcome.TRUSTED
    assert [type(request) for request in device.verifier.requests[2:]] == [AttestRequest] * 3
    assert any("no space left" in line for line in device.lines)


def test_findings_reach_the_verdict_for_people(enrolled: Device) -> None:
    finding = Finding("claim-mismatch", "kernel", "vmlinuz", "a listed kernel", 9, 41)
    enrolled.verifier.script.append(Problem(403, "evidence-refused", "title", findings=(finding,)))
    attempt = enrolled.again()
    run.log_attempt(attempt, enrolled.log)
    verdict = enrolled.store.verdict()
    assert verdict is not None
    assert (verdict.code, verdict.findings) == ("evidence-refused", (finding,))
    assert any("vmlinuz" in line and "41" in line for line in enrolled.lines)


def test_verdict_says_since_when(enrolled: Device) -> None:
    began = enrolled.now
    enrolled.now += 600
    enrolled.again()
    verdict = enrolled.store.verdict()
    assert verdict is not None
    assert verdict.since == began


def test_proof_of_another_process_is_continued(enrolled: Device) -> None:
    other = Agent(
        SERVER,
        enrolled.tpm,
        Record(enrolled.state, enrolled.server),
        sources=enrolled.sources,
        transport=lambda: enrolled.verifier,
        log=enrolled.log,
    )
    run.once(other)
    newest = enrolled.verifier.nonces[-1]
    enrolled.again()
    assert enrolled.verifier.last.nonce == newest


def test_enrolment_of_another_process_is_continued(enrolled: Device) -> None:
    enrolled.now += 60
    other = enrolled.start()
    run.once(other, start=Started())
    assert enrolled.again().report.outcome is Outcome.TRUSTED
    assert enrolled.verifier.last.nonce in enrolled.verifier.nonces[-3:]


def test_two_processes_take_turns(enrolled: Device) -> None:
    with enrolled.store.exclusive():
        thread = threading.Thread(target=enrolled.again)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        assert enrolled.verifier.requests == []
    thread.join(5)
    assert len(enrolled.verifier.requests) == 1


# --- The service ---


class Patience:
    """Stands in for the signals: lets the loop run a number of times and records its sleeps."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.sleeps: list[float] = []

    def check(self) -> None:
        pass

    def sleep(self, seconds: float, *, beat: Callable[[], None]) -> bool:
        beat()
        self.sleeps.append(seconds)
        if len(self.sleeps) == self.rounds:
            raise run.Stopped
        return False


def test_service_goes_on_through_every_failure(device: Device) -> None:
    device.verifier.script += [
        Unreachable("gone"),
        device.verifier.problem("device-unannounced", status=403, retry_after=5),
        device.verifier.problem("internal", status=500),
        device.verifier.problem("evidence-refused", status=403),
    ]
    patience = Patience(7)
    with pytest.raises(run.Stopped):
        run.forever(device.agent, patience, log=device.log)  # type: ignore[arg-type]
    outcomes = [line.split()[0] for line in device.lines]
    assert outcomes == ["unreachable", "waiting", "unreachable", "refused", "trusted", "trusted", "trusted"]
    assert min(patience.sleeps) >= 2


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    """The real process, with a TPM that does not exist and a service manager that listens."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(20)
    environment = {
        **os.environ,
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "ATTESTD_AGENT_SERVER": "https://localhost:1",
        "ATTESTD_AGENT_ANCHOR_FINGERPRINT": "00" * 32,
        "ATTESTD_AGENT_STATE_DIRECTORY": str(tmp_path / "state"),
        "ATTESTD_AGENT_TCTI": f"swtpm:path={tmp_path}/none",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "attestd_agent.cli", "run", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    with manager:
        yield process, manager
        process.kill()
        process.communicate()


def test_service_says_ready_outlives_a_missing_tpm_and_ends_cleanly(
    service: tuple[subprocess.Popen[str], socket.socket],
) -> None:
    process, manager = service
    assert manager.recv(100) == b"READY=1"
    assert manager.recv(100) == b"STATUS=tpm-failed: tpm-failed"
    assert manager.recv(100) == b"WATCHDOG=1"
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == ExitCode.TRUSTED
    assert time.monotonic() - began < 1.5
    events = [json.loads(line)["event"] for line in output.splitlines()]
    assert (events[:2], events[-1]) == (["started", "tpm-failed"], "stopped")


def test_hangup_asks_for_a_proof_now(service: tuple[subprocess.Popen[str], socket.socket]) -> None:
    process, manager = service
    received = [manager.recv(100) for _ in range(3)]
    assert received[-1] == b"WATCHDOG=1"
    began = time.monotonic()
    process.send_signal(signal.SIGHUP)
    assert manager.recv(100) == b"STATUS=tpm-failed: tpm-failed"
    assert time.monotonic() - began < 1.5
