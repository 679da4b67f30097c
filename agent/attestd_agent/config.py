"""What an operator sets: one file, the environment over it, flags over both.

Proves that every setting is known, of its type and safe: the verifier is named by an https URL, and there is an anchor
to trust it by. There is no setting that weakens a check. Reads the file that it is given and nothing else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from attestd_agent import collect
from attestd_agent.client import Server
from attestd_agent.errors import ConfigurationError

DEFAULT_FILE: Final = Path("/etc/attestd/agent.toml")
DEFAULT_STATE: Final = Path("/var/lib/attestd-agent")
DEFAULT_TCTI: Final = "device:/dev/tpmrm0"
ENVIRONMENT: Final = "ATTESTD_AGENT_"
MAX_FILE: Final = 16 * 1024
"""Bytes of the configuration file: seven short lines, and room for an anchor's worth of comments."""

SETTINGS: Final[Mapping[str, str]] = {
    "server": "the verifier's https URL",
    "anchor": "file with the certificate (PEM) that the verifier's certificate must chain to",
    "anchor_fingerprint": "SHA-256 of that certificate; it is then fetched from the verifier",
    "state_directory": "where keys, nonce and certificate are kept",
    "tcti": "how to reach the TPM",
    "event_log": "the firmware's boot log",
    "ima_list": "the kernel's runtime list",
}
"""Every setting and what it is; the environment has ATTESTD_AGENT_ and the name in capitals, the command line --the-name."""

_ANCHORS: Final = frozenset({"anchor", "anchor_fingerprint"})
_FINGERPRINT: Final = re.compile(r"(?:sha-?256[:=]|sha256 fingerprint=)?([0-9a-f]{2}(?::?[0-9a-f]{2}){31})")


@dataclass(frozen=True, slots=True)
class Settings:
    """The agent's settings. Exactly one of `anchor` and `anchor_fingerprint` (32 bytes) is needed to reach the verifier."""

    server: Server | None = None
    anchor: Path | None = None
    anchor_fingerprint: bytes | None = None
    state_directory: Path = DEFAULT_STATE
    tcti: str = DEFAULT_TCTI
    event_log: Path = collect.EVENT_LOG
    ima_list: Path = collect.IMA_LIST

    def verifier(self) -> Server:
        """Return the verifier's address, knowing that there is an anchor for it. *Raises* ConfigurationError."""
        if self.server is None:
            raise ConfigurationError(
                f'no verifier is configured: write server = "https://verifier.example" into {DEFAULT_FILE}, set '
                f"{ENVIRONMENT}SERVER or give --server"
            )
        if (self.anchor is None) == (self.anchor_fingerprint is None):
            raise ConfigurationError(
                "set exactly one trust anchor for the verifier: anchor (a PEM file, copied from the verifier) or "
                "anchor_fingerprint (its SHA-256: openssl x509 -noout -fingerprint -sha256 -in anchor.pem). The public "
                "authorities of the operating system are not used"
            )
        return self.server


def load(path: Path | None, environment: Mapping[str, str], flags: Mapping[str, str]) -> Settings:
    """Return the settings: defaults, then the file, then the environment, then flags.

    `path` None stands for ATTESTD_AGENT_CONFIG or the default file, of which only the default may be absent. *Raises*
    ConfigurationError with the setting's name and what to write.
    """
    named = path or (Path(environment[ENVIRONMENT + "CONFIG"]) if environment.get(ENVIRONMENT + "CONFIG") else None)
    from_environment = {name: v for name in SETTINGS if (v := environment.get(ENVIRONMENT + name.upper()))}
    values: dict[str, str] = {}
    for layer in (_from_file(named or DEFAULT_FILE, required=named is not None), from_environment, flags):
        if not _ANCHORS.isdisjoint(layer):  # a layer that names its anchor replaces the other way of naming one
            values = {name: value for name, value in values.items() if name not in _ANCHORS}
        values |= layer
    settings = Settings()
    for name, value in values.items():
        settings = _with(settings, name, value)
    return settings


def parse_server(text: str) -> Server:
    """Return the address in an https URL of a host and, if need be, a port. *Raises* ConfigurationError."""
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        host, port, url = None, None, urlsplit("")
    if url.scheme == "http":
        raise ConfigurationError(
            f"server = {text!r} is not encrypted and proves nothing about who answers: use https:// and a trust anchor"
        )
    extra = url.path not in ("", "/") or url.query or url.fragment or url.username is not None
    if url.scheme != "https" or not host or extra or not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigurationError(f"server = {text!r}: write https://host or https://host:port")
    return Server(host.lower().rstrip("."), 443 if port is None else port)


def parse_fingerprint(text: str) -> bytes:
    """Return the 32 bytes of a SHA-256 fingerprint in hex, with or without colons and prefix. *Raises* ConfigurationError."""
    match = _FINGERPRINT.fullmatch(text.strip().lower())
    if match is None:
        raise ConfigurationError(
            "anchor_fingerprint: write the 64 hex digits of the SHA-256 of the anchor's certificate"
        )
    return bytes.fromhex(match[1].replace(":", ""))


def _with(settings: Settings, name: str, value: str) -> Settings:
    """Return the settings with one of them set."""
    if name == "server":
        return replace(settings, server=parse_server(value))
    if name == "anchor_fingerprint":
        return replace(settings, anchor_fingerprint=parse_fingerprint(value))
    if name == "tcti":
        return replace(settings, tcti=value)
    return replace(settings, **{name: Path(value)})  # type: ignore[arg-type]


def _from_file(path: Path, *, required: bool) -> dict[str, str]:
    if not required and not path.exists():
        return {}
    import tomllib  # 6 ms and half a megabyte that a device configured by its environment does not pay

    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise ConfigurationError(f"{path} is longer than {MAX_FILE} bytes")
        document = tomllib.loads(content.decode())
    except FileNotFoundError:
        raise ConfigurationError(f"{path} does not exist") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # TOML, UTF-8, and integers of more digits than Python reads
        raise ConfigurationError(f"{path} is not TOML: {error}") from None
    for name, value in document.items():
        if name not in SETTINGS:
            raise ConfigurationError(f"{path}: {name!r} is not a setting; there are {', '.join(SETTINGS)}")
        if not isinstance(value, str) or not value:
            raise ConfigurationError(f"{path}: {name} is not a text: {SETTINGS[name]}")
    return document
