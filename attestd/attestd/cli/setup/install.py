"""Makes a new installation in an empty place: keys, certificates, configuration, database.

Proves that nothing was overwritten and that every secret is fresh and readable by its owner alone; nothing has a default
(C07). The configuration is written last, so an installation that has one is complete. Does not make a gateway's private key:
that one is made on the gateway and stays there.
"""

import datetime
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import load_der_x509_certificate

from attestd import clock, config
from attestd.changes.statement import NAMESPACE
from attestd.cli.setup import files, operator, template, transport
from attestd.cli.setup.renewal import ANCHOR_KEY
from attestd.cli.setup.template import Choices
from attestd.config import CONFIG_NAME, Configuration
from attestd.errors import UnsafeConfiguration
from attestd.safety import OPERATOR_KEY, is_wireguard_key
from attestd.store import Store
from attestd_pki.development import DevelopmentBackend, new_development_ca

_AUTHORITY_SECONDS: Final = 5 * 366 * 24 * 3600
_BACKDATE_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class Wish:
    """What the person who runs `attestd init` may choose. `database` empty: SQLite in the directory."""

    directory: Path
    names: tuple[str, ...]
    host: str
    port: int
    domain: str
    database: str
    wireguard_key: str
    wireguard_endpoint: str


@dataclass(frozen=True, slots=True)
class Installed:
    """What was made: the configuration as it reads back, every file with its mode, the revision of the schema."""

    configuration: Configuration
    files: tuple[tuple[Path, int], ...]
    revision: str


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    data: bytes
    mode: int = files.PRIVATE


def install(wish: Wish) -> Installed:
    """Make everything and return what was made.

    *Raises* UnsafeConfiguration (install-exists, install-names, install-database, wireguard-key), StoreError, OSError.
    """
    _check(wish)
    plan = tuple(_plan(wish))
    for file in plan:
        if (wish.directory / file.path).exists():
            raise _exists(wish.directory / file.path)
    wish.directory.mkdir(mode=files.DIRECTORY, parents=True, exist_ok=True)
    wish.directory.chmod(files.DIRECTORY)
    (wish.directory / "anchors").mkdir(mode=files.DIRECTORY, exist_ok=True)
    for file in plan:
        try:
            files.create(wish.directory / file.path, file.data, mode=file.mode)
        except files.FileExists as error:
            raise _exists(error.path) from None
    configuration = config.load(wish.directory)
    return Installed(configuration, tuple((file.path, file.mode) for file in plan), migrate(configuration))


def migrate(configuration: Configuration) -> str:
    """Bring the database's schema to this version's revision and return it. *Raises* StoreError, UnsafeConfiguration."""
    try:
        store = Store.open(configuration.database_url)
    except ValueError as error:
        raise UnsafeConfiguration("database-unknown", f"database: {error}") from None
    try:
        return store.migrate()
    finally:
        store.close()


def _check(wish: Wish) -> None:
    if (wish.directory / CONFIG_NAME).exists():
        raise _exists(wish.directory / CONFIG_NAME)
    if not wish.names or any(not name or name != name.strip().lower() for name in wish.names):
        raise UnsafeConfiguration(
            "install-names", "name the server in lower case, at least once: --name verifier.example"
        )
    if wish.wireguard_key and not is_wireguard_key(wish.wireguard_key):
        raise UnsafeConfiguration(
            "wireguard-key", "a WireGuard public key is 44 characters of base64: wg pubkey prints it"
        )
    if urlsplit(wish.database).password:
        raise UnsafeConfiguration(
            "install-database",
            "a password in --database would stand in the process list and in a file: set ATTESTD_DATABASE instead",
        )


def _exists(path: Path) -> UnsafeConfiguration:
    return UnsafeConfiguration(
        "install-exists", f"{path} exists, and nothing is overwritten: choose another --directory"
    )


def _plan(wish: Wish) -> Iterator[_File]:
    """Yield every file of the installation, the configuration last."""
    yield from _transport(wish.names)
    yield from _issuer(wish.domain)
    yield _File(Path("results/key.pem"), _pem(Ed25519PrivateKey.generate()))
    yield from _operator()
    yield _File(Path(CONFIG_NAME), template.configuration(_choices(wish)).encode())


def _choices(wish: Wish) -> Choices:
    return Choices(
        names=wish.names,
        host=wish.host,
        port=wish.port,
        domain=wish.domain,
        database=wish.database or Configuration.model_fields["database"].default,
        wireguard_key=wish.wireguard_key,
        wireguard_endpoint=wish.wireguard_endpoint or f"vpn.{wish.domain}:51820",
        ipv6_prefix=str(_local_prefix()),
    )


def _local_prefix() -> ipaddress.IPv6Network:
    """Return a fresh ULA /64: a random global identifier of 40 bits (RFC 4193, 3.2.1), subnet 0."""
    return ipaddress.IPv6Network((b"\xfd" + clock.random_bytes(5) + bytes(10), 64))


def _transport(names: tuple[str, ...]) -> Iterator[_File]:
    now = _now()
    anchor_key, server_key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    anchor = transport.anchor(anchor_key, now=now)
    try:
        server = transport.server(server_key.public_key(), names, issuer=anchor, issuer_key=anchor_key, now=now)
    except ValueError as error:
        raise UnsafeConfiguration("install-names", f"a name that no certificate can hold: {error}") from None
    yield _File(Path("tls/anchor.pem"), anchor.public_bytes(Encoding.PEM), files.PUBLIC)
    yield _File(ANCHOR_KEY, _pem(anchor_key))
    yield _File(Path("tls/server.pem"), server.public_bytes(Encoding.PEM), files.PUBLIC)
    yield _File(Path("tls/server.key"), _pem(server_key))


def _issuer(domain: str) -> Iterator[_File]:
    key = _pem(Ed25519PrivateKey.generate())
    now = clock.now_ms() // 1000
    authority = new_development_ca(
        "attestd",
        domain,
        key=DevelopmentBackend.from_pem(key),
        not_before=now - _BACKDATE_SECONDS,
        not_after=now + _AUTHORITY_SECONDS,
        serial=int.from_bytes(clock.random_bytes(16), "big") | 1 << 127,
    )
    yield _File(Path("issuer/development.key"), key)
    yield _File(
        Path("issuer/authority.pem"), load_der_x509_certificate(authority).public_bytes(Encoding.PEM), files.PUBLIC
    )


def _operator() -> Iterator[_File]:
    key = Ed25519PrivateKey.generate()
    public = key.public_key()
    yield _File(OPERATOR_KEY, operator.private_key_file(key))
    yield _File(OPERATOR_KEY.with_suffix(".pub"), operator.public_key_file(public), files.PUBLIC)
    yield _File(Path("operators/allowed_signers"), operator.allowed_signers(public, namespace=NAMESPACE), files.PUBLIC)


def _pem(key: EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _now() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(clock.now_ms() // 1000, datetime.UTC)
