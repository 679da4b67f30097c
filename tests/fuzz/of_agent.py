"""What a device reads: answers of something that may be no verifier, its own state after a crash, its configuration, its TPM."""

import base64
import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import cert_forge
import tpm_structures as made
from attestd.protocol.codec import JSON, encode
from attestd.protocol.messages import Finding
from attestd.protocol.reasons import PROBLEM_TYPE_PREFIX
from attestd_agent import identity
from attestd_agent.authoring import manufacturer, parse_nonce, parse_registers
from attestd_agent.client import find_certificate, read_problem
from attestd_agent.collect import count_entries
from attestd_agent.config import load, parse_fingerprint, parse_server
from attestd_agent.errors import ConfigurationError, StateDamaged, UnexpectedAnswer, UntrustedServer
from attestd_agent.keystore import AgentState, Keystore, KeystoreRefused, UnreadableState, decode_state, encode_state
from attestd_agent.record import Record
from attestd_agent.tpm import KeyBlob
from attestd_agent.tpm_endorsement import split_chain
from fuzz.mutation import BETWEEN
from fuzz.of_pki import certificates
from fuzz.of_protocol import messages
from fuzz.of_tpm import each, lists, statements
from fuzz.target import Target

_ANCHOR: Final = cert_forge.make(cert_forge.ROOT).der
_KEY: Final = KeyBlob(made.sized(made.ecc_area(cert_forge.ec_key(55))), made.sized(bytes(40)))


@cache
def _directory() -> tuple[Path, tempfile.TemporaryDirectory[str]]:
    held = tempfile.TemporaryDirectory(prefix="attestd-fuzz-")
    return Path(held.name), held


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Keep what a logger says to itself, for this block alone: other tests listen to it."""
    logger, nothing = logging.getLogger(name), logging.Filter("nobody")
    logger.addFilter(nothing)
    try:
        yield
    finally:
        logger.removeFilter(nothing)


# --- Seeds ----------------------------------------------------------------------------------------------------------------


def _problems() -> Iterator[bytes]:
    finding = json.loads(encode(Finding("claim-mismatch", "kernel", "a kernel", "one of them", pcr=4), JSON))
    document: dict[str, Any] = {
        "type": PROBLEM_TYPE_PREFIX + "nonce-expired",
        "code": "nonce-expired",
        "title": "t",
        "status": 400,
    }
    yield json.dumps(document).encode()
    nonce = base64.urlsafe_b64encode(bytes(48)).decode().rstrip("=")
    yield json.dumps({**document, "detail": "d", "advice": "a", "nonce": nonce, "findings": [finding]}).encode()


def _state() -> AgentState:
    credential = next(one for one in messages() if type(one).__name__ == "VpnCredential")
    return AgentState(
        server="https://verifier.example",
        device="d" * 52,
        interval=60,
        next_nonce=bytes(48),
        deadline=1_795_350_000,
        certificate_chain="-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        device_key=_KEY,
        wireguard_key=_KEY,
        wireguard_public=base64.b64encode(bytes(32)).decode(),
        vpn_credential={"wireguard": json.loads(encode(credential, JSON))},
        last_log_digest=bytes(32),
        last_pcr_digest=bytes(32),
        reset_count=7,
        ima_offset=9,
    )


def _states() -> Iterator[bytes]:
    yield encode_state(_state())
    yield encode_state(AgentState())


def _records() -> Iterator[bytes]:
    quote = {"key": identity.name_of(_KEY.public).hex(), "bank": "sha256", "pcrs": [0, 1, 2]}
    verdict = {"outcome": "trusted", "code": "", "detail": "", "advice": "", "findings": [], "since": 1}
    yield encode_state(_state()) + BETWEEN + json.dumps({"quote": quote, "verdict": verdict}).encode()


def _settings() -> Iterator[bytes]:
    yield b'server = "https://verifier.example:8443"\nanchor_fingerprint = "' + b"ab" * 32 + b'"\n'
    yield b"https://verifier.example:8443"
    yield b"sha256:" + b"AB:" * 31 + b"AB"
    yield b"0-7,14"
    yield b"00ff" * 8


# --- What is done with the bytes ----------------------------------------------------------------------------------------------


def _problem(data: bytes) -> None:
    read_problem(400, data, retry_after=data[:12].decode("latin-1"))


def _anchor(data: bytes) -> None:
    text = data.decode("ascii", "replace")
    pinned = sha256(_ANCHOR).digest()
    pem = find_certificate(text, fingerprint=pinned)
    assert find_certificate(pem, fingerprint=pinned) == pem


def _anchors() -> Iterator[bytes]:
    for one in (_ANCHOR, *certificates()):
        text = base64.encodebytes(one)
        yield b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"


def _decode(data: bytes) -> None:
    state = decode_state(data)
    assert decode_state(encode_state(state)) == state


def _record(data: bytes) -> None:
    directory, _ = _directory()
    state, _, verdict = data.partition(BETWEEN)
    for name, content in (("state.json", state), ("verdict.json", verdict)):
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o600)
    with _silent("attestd_agent.keystore"):
        each(lambda: Keystore(directory).load(), own=KeystoreRefused)
    record = Record(directory, None)
    record.verdict()
    record.anchor()
    record.load()


def _configuration(data: bytes) -> None:
    path = _directory()[0] / "agent.toml"
    path.write_bytes(data)
    text = data.decode("utf-8", "surrogateescape")
    each(
        lambda: parse_server(text),
        lambda: parse_fingerprint(text),
        lambda: parse_registers(text),
        lambda: parse_nonce(text),
        own=ConfigurationError,
    )
    load(path, {}, {})


def _chip(data: bytes) -> None:
    manufacturer(data)
    assert b"".join(split_chain(data)).rstrip(b"\0\xff") == data.rstrip(b"\0\xff") or not data.strip(b"\0\xff")
    count_entries(data)
    each(*(lambda read=read: read(data) for read in _READERS), own=StateDamaged)


_READERS: Final = (
    identity.public_area,
    identity.name_of,
    identity.spki,
    identity.device_id,
    identity.ek_digest,
    identity.reset_count,
)


def _chips() -> Iterator[bytes]:
    yield from certificates()
    yield from lists()
    yield from statements()
    yield _KEY.public
    yield b"".join(certificates()) + bytes(99)


TARGETS: Final = {
    "problem": Target(_problem, (UnexpectedAnswer,), _problems, (read_problem,), (), "json"),
    "anchor": Target(
        _anchor,
        (UntrustedServer,),
        _anchors,
        (find_certificate,),
        words=(b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"),
    ),
    "agentstate": Target(_decode, (UnreadableState, KeystoreRefused), _states, (decode_state,), (), "json"),
    "agentrecord": Target(_record, (KeystoreRefused,), _records, (Keystore.load, Record.load), (), "joined"),
    "agentconfig": Target(
        _configuration,
        (ConfigurationError,),
        _settings,
        (load, parse_server, parse_fingerprint, parse_registers, parse_nonce),
    ),
    "agentchip": Target(_chip, (), _chips, (count_entries, split_chain, manufacturer, *_READERS)),
}
