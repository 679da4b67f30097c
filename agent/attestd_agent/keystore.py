"""What a device remembers between two runs of its agent: one small file in a directory of its own.

Nothing in it is a secret that works elsewhere: keys are TPM blobs, useless on another TPM, and the rest is public or
short-lived. It is still kept private (0700, 0600) and replaced atomically, so that a power cut leaves the old state or
the new one and never half of each. A file that cannot be read is moved aside and the device enrols again: losing this
directory costs one enrolment, never a device.

It assumes a local POSIX file system. It does not lock: one agent runs per directory.
"""

import base64
import binascii
import json
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from attestd_agent.errors import AgentError
from attestd_agent.tpm import KeyBlob

STATE_VERSION: Final = 1
MAX_STATE: Final = 256 * 1024
"""Bytes of the state file. A chain of six certificates, two key blobs and VPN credentials of four kinds stay under 64 KiB."""
_FILE: Final = "state.json"
_ASIDE: Final = "state.json.unreadable"
_NEW: Final = ".state.json.new"
_log: Final = logging.getLogger(__name__)
_T = TypeVar("_T")


class KeystoreRefused(AgentError):
    """The state directory must not be used as it is; the message says what a person has to change."""

    def __init__(
        self, code: Literal["unsafe_directory", "unsafe_file", "unknown_version", "no_space"], message: str
    ) -> None:
        super().__init__(message)
        self.code = code


class UnreadableState(Exception):
    """The bytes are not a state of this version."""


@dataclass(frozen=True, slots=True)
class AgentState:
    """Everything that outlives a run. Empty fields are things that have not happened yet."""

    server: str = ""
    """The verifier's base URL."""
    device: str = ""
    """The device's id as the verifier gave it; empty before enrolment."""
    interval: int = 0
    """Seconds between two attestations."""
    next_nonce: bytes = b""
    """The challenge of the next attestation."""
    deadline: int = 0
    """Unix time by which the next attestation has to be accepted."""
    certificate_chain: str = ""
    """PEM, the device's certificate first."""
    device_key: KeyBlob | None = None
    wireguard_key: KeyBlob | None = None
    """The WireGuard private key, sealed."""
    wireguard_public: str = ""
    """Base64, as WireGuard writes it."""
    vpn_credential: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What the verifier issued for the tunnel, as a JSON object. It never shows in a log: it may hold a wrapped secret."""
    last_log_digest: bytes = b""
    """SHA-256 of the event log that the verifier has."""
    last_pcr_digest: bytes = b""
    """pcrDigest of the last quote that was accepted."""
    reset_count: int = 0
    """The TPM's resetCount at the last accepted attestation: another value means that the machine booted since."""
    ima_offset: int = 0
    """Bytes of the runtime list that the verifier has."""
    version: int = STATE_VERSION


def encode_state(state: AgentState) -> bytes:
    """Return the state as a JSON document, byte strings in base64."""
    document = {
        "version": state.version,
        "server": state.server,
        "device": state.device,
        "interval": state.interval,
        "next_nonce": _text(state.next_nonce),
        "deadline": state.deadline,
        "certificate_chain": state.certificate_chain,
        "device_key": _blob_document(state.device_key),
        "wireguard_key": _blob_document(state.wireguard_key),
        "wireguard_public": state.wireguard_public,
        "vpn_credential": dict(state.vpn_credential),
        "last_log_digest": _text(state.last_log_digest),
        "last_pcr_digest": _text(state.last_pcr_digest),
        "reset_count": state.reset_count,
        "ima_offset": state.ima_offset,
    }
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def decode_state(data: bytes) -> AgentState:
    """Return the state in a document of :func:`encode_state`.

    Raises: UnreadableState for anything but a complete document; KeystoreRefused ``unknown_version`` for a complete
    document of another version, which another version of the agent can still use.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise UnreadableState(f"not JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise UnreadableState("not an object")
    version = _take(document, "version", int)
    if version != STATE_VERSION:
        raise KeystoreRefused(
            "unknown_version", f"the state is of version {version}, this agent writes version {STATE_VERSION}"
        )
    state = AgentState(
        server=_take(document, "server", str),
        device=_take(document, "device", str),
        interval=_take(document, "interval", int),
        next_nonce=_bytes(document, "next_nonce"),
        deadline=_take(document, "deadline", int),
        certificate_chain=_take(document, "certificate_chain", str),
        device_key=_blob(document, "device_key"),
        wireguard_key=_blob(document, "wireguard_key"),
        wireguard_public=_take(document, "wireguard_public", str),
        vpn_credential=_take(document, "vpn_credential", dict),
        last_log_digest=_bytes(document, "last_log_digest"),
        last_pcr_digest=_bytes(document, "last_pcr_digest"),
        reset_count=_take(document, "reset_count", int),
        ima_offset=_take(document, "ima_offset", int),
    )
    if document:
        raise UnreadableState(f"unknown fields: {', '.join(sorted(document))[:200]}")
    return state


class Keystore:
    """The state directory of one agent."""

    def __init__(self, directory: Path) -> None:
        """Use ``directory``, and create it (0700) where it does not exist.

        Raises: KeystoreRefused ``unsafe_directory``.
        """
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _check_directory(directory)

    def load(self) -> AgentState | None:
        """Return the last saved state, or None where there is none that can be read.

        An unreadable file is moved aside, with a warning that says so. Raises: KeystoreRefused ``unknown_version``,
        ``unsafe_file``.
        """
        data = self._read()
        if data is None:
            return None
        try:
            return decode_state(data)
        except UnreadableState as exc:
            os.replace(self.directory / _FILE, self.directory / _ASIDE)
            _log.warning(
                "the state file could not be read (%s); it was kept as %s and the device enrols again", exc, _ASIDE
            )
            return None

    def save(self, state: AgentState) -> None:
        """Replace the state; when this returns it is on the disk.

        Raises: KeystoreRefused ``no_space``: the state before this call is still there.
        """
        data = encode_state(state)
        temporary = self.directory / _NEW
        temporary.unlink(missing_ok=True)
        try:
            _write_file(temporary, data)
            os.replace(temporary, self.directory / _FILE)
            _sync_directory(self.directory)
        except OSError as exc:
            temporary.unlink(missing_ok=True)
            raise KeystoreRefused("no_space", f"the state could not be written: {exc}") from exc

    def forget(self) -> None:
        """Remove the state, as for a device that is given away."""
        for name in (_FILE, _ASIDE):
            (self.directory / name).unlink(missing_ok=True)
        _sync_directory(self.directory)

    def _read(self) -> bytes | None:
        try:
            # O_NOFOLLOW and O_NONBLOCK: neither a link nor a pipe may stand in for the file.
            descriptor = os.open(self.directory / _FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise KeystoreRefused("unsafe_file", f"{_FILE} cannot be opened: {exc}") from exc
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o022:
                raise KeystoreRefused("unsafe_file", f"{_FILE} is not a private regular file")
            return file.read(MAX_STATE + 1)


def _check_directory(directory: Path) -> None:
    """Refuse a directory that somebody else can put files into; close it to readers.

    Raises: KeystoreRefused ``unsafe_directory``.
    """
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise KeystoreRefused("unsafe_directory", f"{directory} is not a directory")
    if status.st_uid != os.geteuid():
        raise KeystoreRefused("unsafe_directory", f"{directory} belongs to user {status.st_uid}, not to this one")
    if status.st_mode & 0o022:
        raise KeystoreRefused("unsafe_directory", f"others can write to {directory}: chmod 0700 it")
    if status.st_mode & 0o077:
        directory.chmod(0o700)


def _write_file(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _sync_directory(directory: Path) -> None:
    """Make a rename durable (fsync(2): the directory entry is synced on its own)."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _blob_document(blob: KeyBlob | None) -> dict[str, str] | None:
    return None if blob is None else {"public": _text(blob.public), "private": _text(blob.private)}


def _take(document: dict[str, Any], name: str, kind: type[_T]) -> _T:
    """Remove a field and return it. Raises: UnreadableState where it is missing or of another type."""
    value = document.pop(name, None)
    # bool is an int to Python and not to us.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UnreadableState(f"{name} is missing or not of type {kind.__name__}")
    return value


def _bytes(document: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(_take(document, name, str), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise UnreadableState(f"{name} is not base64") from exc


def _blob(document: dict[str, Any], name: str) -> KeyBlob | None:
    if name in document and document[name] is None:
        del document[name]
        return None
    inner = _take(document, name, dict)
    blob = KeyBlob(_bytes(inner, "public"), _bytes(inner, "private"))
    if inner:
        raise UnreadableState(f"{name} has unknown fields")
    return blob
