"""The verifier's configuration: one TOML file, and the only reader of the environment.

`attestd init` writes a working one with safe defaults. `attestd.safety` refuses to serve with an unsafe one.
"""

import ipaddress
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from attestd.errors import UnsafeConfiguration
from attestd.protocol import limits

CONFIG_NAME = "attestd.toml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Replicas(_Section):
    """What several verifiers of one fleet share, beside the database. `challenge_key`: a file of 32 random bytes, mode 0600."""

    challenge_key: Path | None = None


class Listen(_Section):
    """Where the verifier listens and under which names devices reach it (`names` are the TLS certificate's)."""

    host: str = "127.0.0.1"
    port: int = Field(8443, ge=0, le=65535)
    names: tuple[str, ...] = ("localhost", "127.0.0.1")
    certificate: Path = Path("tls/server.pem")
    key: Path = Path("tls/server.key")
    anchor: Path = Path("tls/anchor.pem")
    public_url: str = "https://localhost:8443"


class Trust(_Section):
    """Whom the verifier believes: manufacturers of TPMs, operators who approve changes, and the name of the fleet."""

    domain: str = "fleet.example"
    dns_suffix: str = "devices.fleet.example"
    ek_anchors: tuple[Path, ...] = (Path("anchors"),)
    """PEM files, or directories of them."""
    ek_certificate: str = Field("required", pattern="^(required|or-inventory)$")
    sha1_manufacturers: tuple[str, ...] = ()
    """SHA-256 (hex) of CA certificates under which a SHA-1 signature is excused: a named exception for old vendor chains."""
    operators: Path = Path("operators/allowed_signers")
    approvals: int = Field(1, ge=1, le=16)


class Attestation(_Section):
    """What is quoted, and how soon a device that waits for a person may ask again. How often it proves itself is its profile's."""

    bank: str = Field("sha256", pattern="^(sha256|sha384|sha512)$")
    pcrs: tuple[int, ...] = tuple(range(15))
    pending_retry: int = Field(60, ge=1, le=3600)
    result_key: Path = Path("results/key.pem")

    @field_validator("pcrs")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)) or not value or value[0] < 0 or value[-1] >= limits.PCR_COUNT:
            raise ValueError("pcrs are distinct indices from 0 to 23 in rising order")
        if not set(range(8)) <= set(value):
            raise ValueError("PCRs 0 to 7 are always quoted: without them nothing says what booted")
        return value


class Issuance(_Section):
    """Who signs certificates. `development` is one key in a file: it is refused outside loopback."""

    backend: str = Field("development", pattern="^development$")
    key: Path = Path("issuer/development.key")
    certificate: Path = Path("issuer/authority.pem")
    lifetime: int = Field(6 * 3600, ge=300, le=limits.CERTIFICATE_MAX_SECONDS)
    crl_url: str = "https://localhost:8443/v1/crl"
    crl_lifetime: int = Field(3600, ge=60, le=7 * 24 * 3600)


class Wireguard(_Section):
    """The tunnel: the gateway as devices must know it, and the pools that addresses come from."""

    public_key: str = ""
    endpoint: str = "vpn.fleet.example:51820"
    allowed_ips: tuple[str, ...] = ("100.64.0.0/10",)
    ipv4_pool: ipaddress.IPv4Network = ipaddress.IPv4Network("100.64.0.0/10")
    ipv6_prefix: ipaddress.IPv6Network = ipaddress.IPv6Network("fd00:a77e:57d0::/64")
    cool_down: int = Field(24 * 3600, ge=0)

    @field_validator("ipv6_prefix")
    @classmethod
    def _room_for_interface_ids(cls, value: ipaddress.IPv6Network) -> ipaddress.IPv6Network:
        if value.prefixlen > 64:
            raise ValueError("the prefix leaves 64 bits for interface identifiers")
        return value


class Configuration(_Section):
    """A whole configuration. Relative paths are relative to `directory`, the one that holds the file."""

    directory: Path
    database: str = "sqlite:///attestd.db"
    listen: Listen = Listen()
    trust: Trust = Trust()
    attestation: Attestation = Attestation()
    issuance: Issuance = Issuance()
    wireguard: Wireguard = Wireguard()
    replicas: Replicas = Replicas()

    def path(self, relative: Path) -> Path:
        """Return a configured path, absolute."""
        return relative if relative.is_absolute() else self.directory / relative

    @property
    def database_url(self) -> str:
        """The database's URL, with a relative SQLite path made absolute."""
        prefix = "sqlite:///"
        if self.database.startswith(prefix) and not self.database.startswith(prefix + "/"):
            return prefix + str(self.directory / self.database.removeprefix(prefix))
        return self.database


class Environment(BaseSettings):
    """What the environment may say: where the configuration is, and the database's URL (it may hold a password)."""

    model_config = SettingsConfigDict(env_prefix="ATTESTD_")

    directory: Path = Path("/var/lib/attestd")
    database: str | None = None


def load(directory: Path | None = None) -> Configuration:
    """Return the configuration of a directory (default: ATTESTD_DIRECTORY, else /var/lib/attestd).

    Raises `UnsafeConfiguration` (config-missing, config-malformed), which says what to do.
    """
    environment = Environment()
    place = (directory or environment.directory).absolute()
    file = place / CONFIG_NAME
    try:
        document: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnsafeConfiguration(
            "config-missing", f"there is no {file}: run `attestd init --directory {place}`"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: TOML, UTF-8, and integers of more digits than Python reads
        raise UnsafeConfiguration("config-malformed", f"{file}: {error}") from None
    if environment.database:
        document["database"] = environment.database
    try:
        return Configuration(directory=place, **document)
    except (ValidationError, TypeError) as error:
        raise UnsafeConfiguration("config-malformed", f"{file}: {_first(error)}") from None


def _first(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return str(error)
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
