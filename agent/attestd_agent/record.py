"""What the agent keeps in its state directory: the enrolment, the last verdict, the certificate, the anchor.

Each file is private (0600) and replaced atomically. An enrolment is written in one order, the state last: while its
other file is for another key, there is no enrolment, and the device enrols again. Assumes a directory that keystore.py
has checked. No file holds a private key in the clear, or a token (T09).
"""

import base64
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from attestd.protocol.codec import JSON, SHAPES, MessageMalformed, decode, encode
from attestd.protocol.messages import WIREGUARD, Attested, Enrolled, Finding, Next, QuoteRequest, VpnCredential
from attestd_agent import identity, keyfile
from attestd_agent.client import Server
from attestd_agent.errors import StateDamaged
from attestd_agent.keystore import AgentState, Keystore, KeystoreRefused
from attestd_agent.machine import Outcome, Report
from attestd_agent.proof import Identity, Keys, Shown
from attestd_agent.wireguard import TunnelKey

VERDICT_FILE: Final = "verdict.json"
CERTIFICATE_FILE: Final = "device.pem"
ANCHOR_FILE: Final = "anchor.pem"
LOCK_FILE: Final = "lock"
MAX_FILE: Final = 1024 * 1024
"""Bytes of one of these files; the longest, a verdict with 256 findings of 2 KiB, stays under it."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A stored enrolment: who the device is, the nonce of its next proof, and what it was given.

    `interval` is in seconds; `deadline` is the Unix second by which the next proof has to be accepted.
    """

    device: Identity
    nonce: bytes
    interval: int
    deadline: int
    certificate_chain: str
    vpn: tuple[VpnCredential, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The last word of the verifier (or the lack of one), and since when (Unix seconds) it has been the same."""

    outcome: str
    code: str
    detail: str
    advice: str
    findings: tuple[Finding, ...]
    since: int


class Record:
    """The state directory of one agent, seen from one verifier: an enrolment at another one does not count here."""

    def __init__(self, directory: Path, server: Server | None) -> None:
        """Use `directory`, and create it (0700) where it does not exist. *Raises* KeystoreRefused."""
        self.directory = directory
        self._keystore = Keystore(directory)
        self._server = "" if server is None else f"https://{server.authority}"

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the directory while one attempt runs; another agent process waits."""
        try:
            flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self.directory / LOCK_FILE, flags, 0o600)
        except OSError:  # a file system that was remounted read-only: a proof without a lock is better than none
            yield
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    # --- The enrolment ----------------------------------------------------------------------------------------------

    def load(self) -> Enrolment | None:
        """Return the stored enrolment, or None where there is none at this verifier. *Raises* KeystoreRefused."""
        state = self._keystore.load()
        if state is None or not state.device or (self._server and state.server != self._server):
            return None
        try:
            return _enrolment(state, _selection(self._document()))
        except (StateDamaged, MessageMalformed, KeyError, TypeError, ValueError):
            return None

    def adopt(self, answer: Enrolled, keys: Keys, *, quote: QuoteRequest, shown: Shown, now: float) -> None:
        """Store an enrolment and write the certificate. *Raises* KeystoreRefused, StateDamaged."""
        selection = {"key": identity.name_of(keys.device.public).hex(), "bank": quote.bank, "pcrs": list(quote.pcrs)}
        self._write(VERDICT_FILE, _json(self._document() | {"quote": selection}))
        vpn = {credential.kind: json.loads(encode(credential, JSON)) for credential in answer.vpn}
        state = AgentState(
            server=self._server,
            device=answer.device_id,
            device_key=keys.device,
            wireguard_key=keys.tunnel.sealed,
            wireguard_public=base64.b64encode(keys.tunnel.public).decode("ascii"),
            vpn_credential=vpn,
        )
        self._save(state, answer.next, answer.certificate_chain, shown, now)

    def proved(self, answer: Attested, *, shown: Shown, now: float) -> None:
        """Store what an accepted proof brought. *Raises* KeystoreRefused."""
        state = self._keystore.load()
        if state is not None:
            self._save(state, answer.next, answer.certificate_chain, shown, now)

    def forget(self) -> None:
        """Remove enrolment and certificate; the verdict stays, for people. *Raises* OSError."""
        self._keystore.forget()
        (self.directory / CERTIFICATE_FILE).unlink(missing_ok=True)

    def _save(self, state: AgentState, following: Next, chain: tuple[bytes, ...], shown: Shown, now: float) -> None:
        if chain and state.device_key is not None:
            pem = keyfile.device_pem(chain, state.device_key)
            self._write(CERTIFICATE_FILE, pem.encode("ascii"))
            state = replace(state, certificate_chain=pem.partition("-----BEGIN TSS2")[0])
        self._keystore.save(
            replace(
                state,
                interval=following.interval,
                next_nonce=following.nonce,
                deadline=int(now) + following.deadline,
                last_log_digest=shown.log,
                last_pcr_digest=shown.pcrs,
                reset_count=shown.reset_count,
                ima_offset=shown.runtime_entries,
            )
        )

    # --- The verdict ------------------------------------------------------------------------------------------------

    def judge(self, report: Report, *, now: float) -> None:
        """Store the verdict if it is another than the last. *Raises* KeystoreRefused."""
        last = self.verdict()
        made = Verdict(
            report.outcome.value, report.code, report.detail, report.advice, report.findings, last.since if last else 0
        )
        if made != last:
            document = self._document()
            document["verdict"] = _verdict_document(replace(made, since=int(now)))
            self._write(VERDICT_FILE, _json(document))

    def verdict(self) -> Verdict | None:
        """Return the last verdict, or None where there is none that can be read."""
        try:
            raw = dict(self._document()["verdict"])
            findings = tuple(SHAPES[Finding](item, True, "") for item in raw.pop("findings"))
            made = Verdict(findings=findings, **raw)
            Outcome(made.outcome)
        except (KeyError, TypeError, ValueError):
            return None
        return made

    # --- The anchor -------------------------------------------------------------------------------------------------

    def anchor(self) -> str:
        """Return the stored anchor (PEM), empty where there is none."""
        return self._read(ANCHOR_FILE).decode("ascii", "replace")

    def keep_anchor(self, pem: str) -> None:
        """Store the anchor. *Raises* KeystoreRefused."""
        self._write(ANCHOR_FILE, pem.encode("ascii"))

    # --- Files ------------------------------------------------------------------------------------------------------

    def _document(self) -> dict[str, Any]:
        try:
            document = json.loads(self._read(VERDICT_FILE))
        except (ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}

    def _read(self, name: str) -> bytes:
        try:
            descriptor = os.open(self.directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return b""
        with os.fdopen(descriptor, "rb") as file:
            return file.read(MAX_FILE)

    def _write(self, name: str, content: bytes) -> None:
        try:
            write_private(self.directory / name, content)
        except OSError as error:
            raise KeystoreRefused("no_space", f"{name} could not be written: {error.strerror}") from error


def write_private(path: Path, content: bytes) -> None:
    """Replace a file atomically; only its owner can read it at any moment. *Raises* OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def _verdict_document(verdict: Verdict) -> dict[str, Any]:
    return {
        "outcome": verdict.outcome,
        "code": verdict.code,
        "detail": verdict.detail,
        "advice": verdict.advice,
        "findings": [json.loads(encode(finding, JSON)) for finding in verdict.findings],
        "since": verdict.since,
    }


def _selection(document: Mapping[str, Any]) -> tuple[str, QuoteRequest]:
    raw = document["quote"]
    return str(raw["key"]), QuoteRequest(str(raw["bank"]), tuple(int(index) for index in raw["pcrs"]))


def _enrolment(state: AgentState, selection: tuple[str, QuoteRequest]) -> Enrolment:
    """Return the enrolment in a state. *Raises* StateDamaged where it lacks a key or the selection is for another."""
    if state.device_key is None or state.wireguard_key is None:
        raise StateDamaged("the state lacks a key")
    key, quote = selection
    if identity.name_of(state.device_key.public).hex() != key:
        raise StateDamaged("the stored selection is for another key")
    tunnel = TunnelKey(base64.b64decode(state.wireguard_public, validate=True), state.wireguard_key)
    shown = Shown(state.last_log_digest, state.last_pcr_digest, state.reset_count, state.ima_offset)
    vpn = tuple(decode(VpnCredential, json.dumps(raw).encode(), JSON) for raw in state.vpn_credential.values())
    return Enrolment(
        device=Identity(state.device, Keys(state.device_key, tunnel), quote, shown),
        nonce=state.next_nonce,
        interval=state.interval,
        deadline=state.deadline,
        certificate_chain=state.certificate_chain,
        vpn=vpn,
    )


def tunnel_credential(enrolment: Enrolment) -> VpnCredential:
    """Return the WireGuard credential of an enrolment. *Raises* StateDamaged where the verifier issued none."""
    for credential in enrolment.vpn:
        if credential.kind == WIREGUARD:
            return credential
    raise StateDamaged("the verifier issued no WireGuard credential to this device")
