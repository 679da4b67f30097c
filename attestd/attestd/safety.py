"""What must hold before a verifier serves: every unsafe configuration has a stable code and a sentence that says what to do.

Proves, when `check` returns, that on this host, at this moment, secrets are private, the parties whom the verifier believes
are named, and whatever is for development alone listens on loopback alone. Assumes that the process runs as the user that
will serve. Does not repair anything, and does not know whether an operator or a manufacturer deserves belief.
"""

import base64
import datetime
import ipaddress
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from attestd import clock
from attestd.changes.errors import ChangeRefused
from attestd.changes.operators import parse_operators
from attestd.config import CONFIG_NAME, Configuration
from attestd.errors import UnsafeConfiguration
from attestd.store import SchemaMismatch, Store
from attestd_pki.certificate import parse_certificate
from attestd_pki.development import development_issuer
from attestd_pki.errors import PkiError
from attestd_pki.unwrap import split_bundle

DEVELOPMENT_OPERATOR: Final = "development-operator"
"""The principal of the operator whom `attestd init` makes; a change that it signed carries this name for ever."""
OPERATOR_KEY: Final = Path("operators/development")
"""Where that operator's private key lies, if it is on this host at all."""

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_WRITABLE: Final = stat.S_IWGRP | stat.S_IWOTH

Findings = Iterator[UnsafeConfiguration]


def check(configuration: Configuration) -> None:
    """Return if the verifier may serve. *Raises* UnsafeConfiguration with the first finding; StoreUnavailable."""
    for finding in findings(configuration):
        raise finding


def findings(configuration: Configuration) -> Findings:
    """Yield everything that is unsafe, in the order in which a person would repair it. *Raises* StoreUnavailable."""
    for examine in _CHECKS:
        yield from examine(configuration)


# --- Files ----------------------------------------------------------------------------------------------------------


def _directory(configuration: Configuration) -> Findings:
    place = configuration.directory
    if place.stat().st_mode & _WRITABLE:
        yield UnsafeConfiguration("directory-writable", f"others can write into {place}: chmod 0700 {place}")


def _decisive(configuration: Configuration) -> Iterator[Path]:
    """Yield every file and directory by which somebody who writes there decides whom the verifier trusts."""
    trust, issuance = configuration.trust, configuration.issuance
    files = (
        Path(CONFIG_NAME),
        trust.operators,
        issuance.certificate,
        issuance.key,
        configuration.listen.certificate,
        configuration.listen.anchor,
        configuration.attestation.result_key,
    )
    paths = [configuration.path(file) for file in files] + list(anchor_files(configuration))
    yield from dict.fromkeys((*paths, *(path.parent for path in paths)))


def _writable(configuration: Configuration) -> Findings:
    for path in _decisive(configuration):
        mode = _mode(path)
        if (
            mode is not None
            and mode & _WRITABLE
            and path
            not in (
                configuration.directory,
                configuration.path(configuration.trust.operators),
            )
        ):
            yield UnsafeConfiguration("trust-writable", f"others can write {path}: chmod go-w {path}")


def _secret_files(configuration: Configuration) -> Iterator[tuple[str, Path]]:
    """Yield (what it is, path) of every file whose reader could impersonate somebody."""
    yield "tls-key", configuration.path(configuration.listen.key)
    yield "tls-anchor-key", configuration.path(Path("tls/anchor.key"))
    yield "issuer-key", configuration.path(configuration.issuance.key)
    yield "result-key", configuration.path(configuration.attestation.result_key)
    yield "operator-key", configuration.path(OPERATOR_KEY)
    if configuration.replicas.challenge_key is not None:
        yield "challenge-key", configuration.path(configuration.replicas.challenge_key)


def _secrets(configuration: Configuration) -> Findings:
    for what, path in _secret_files(configuration):
        mode = _mode(path)
        if mode is not None and mode & _OTHERS:
            yield UnsafeConfiguration(f"{what}-readable", f"others can read {path}: chmod 0600 {path}")


def _database_file(configuration: Configuration) -> Findings:
    path = sqlite_file(configuration)
    mode = None if path is None else _mode(path)
    if mode is not None and mode & _OTHERS:
        yield UnsafeConfiguration("database-readable", f"others can read {path}: chmod 0600 {path}")


def sqlite_file(configuration: Configuration) -> Path | None:
    """Return the database's file, or None where the database is a server."""
    url = configuration.database_url
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def _mode(path: Path) -> int | None:
    """Return the permission bits of a file, or None where there is none: other checks say what is missing."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None


# --- Transport ------------------------------------------------------------------------------------------------------


def _tls(configuration: Configuration) -> Findings:
    listen = configuration.listen
    for path in (configuration.path(listen.certificate), configuration.path(listen.key)):
        if not path.is_file():
            yield UnsafeConfiguration("tls-missing", f"{path} is missing: attestd does not serve without TLS")
            return
    certificate = _certificates(configuration.path(listen.certificate))
    key = _private_key(configuration.path(listen.key))
    if not certificate or key is None:
        yield UnsafeConfiguration("tls-malformed", f"{listen.certificate} or {listen.key} is not PEM")
        return
    yield from _tls_pair(configuration, certificate[0], key)


def _tls_pair(configuration: Configuration, certificate: x509.Certificate, key: PrivateKeyTypes) -> Findings:
    listen = configuration.listen
    if _spki(certificate) != key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        yield UnsafeConfiguration("tls-mismatch", f"{listen.key} is not the key of {listen.certificate}")
    if certificate.not_valid_after_utc <= _now():
        yield UnsafeConfiguration("tls-expired", f"{listen.certificate} has expired: run `attestd tls renew`")
    missing = sorted(frozenset(listen.names) - _names_of(certificate))
    if missing:
        yield UnsafeConfiguration(
            "tls-names", f"{listen.certificate} is not for {', '.join(missing)}: `attestd tls renew`"
        )


def _names(configuration: Configuration) -> Findings:
    if not configuration.listen.names:
        yield UnsafeConfiguration(
            "names-missing", "listen.names is empty: devices would have no name to bind proofs to"
        )
    for name, url in (("listen.public_url", configuration.listen.public_url),):
        if urlsplit(url).scheme != "https":
            yield UnsafeConfiguration("url-insecure", f"{name} is {url}: it must begin with https://")


def _anchor(configuration: Configuration) -> Findings:
    path = configuration.path(configuration.listen.anchor)
    if not path.is_file() or not _certificates(path):
        yield UnsafeConfiguration("anchor-missing", f"{path} is not a certificate: devices verify this server with it")


# --- Development ----------------------------------------------------------------------------------------------------


def _development(configuration: Configuration) -> Findings:
    if is_loopback(configuration.listen.host):
        return
    host = configuration.listen.host
    if configuration.issuance.backend == "development":
        yield UnsafeConfiguration(
            "development-issuer", f"the development issuer is one key in one file: it serves on loopback, not on {host}"
        )
    if _development_operator(configuration):
        yield UnsafeConfiguration(
            "development-operator",
            f"the development operator may not decide for a verifier on {host}: put your operators' public keys into "
            f"{configuration.trust.operators} and remove {OPERATOR_KEY}",
        )


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to an address. A name other than localhost could mean anything."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_wireguard_key(text: str) -> bool:
    """Return whether a text is a WireGuard key as wg(8) writes it: 32 bytes in base64."""
    try:
        return len(text) == 44 and len(base64.b64decode(text, validate=True)) == 32
    except ValueError:
        return False


def _gateway(configuration: Configuration) -> Findings:
    key = configuration.wireguard.public_key
    if key and not is_wireguard_key(key):
        yield UnsafeConfiguration("wireguard-key", "wireguard.public_key is not a WireGuard key: `wg pubkey` prints it")


# --- Whom the verifier believes -------------------------------------------------------------------------------------


def _ek_anchors(configuration: Configuration) -> Findings:
    count = 0
    for path in anchor_files(configuration):
        found = _anchors_in(path)
        if not found:
            yield UnsafeConfiguration("anchors-malformed", f"{path} is not one or more certificates in PEM")
        count += found
    # With "or-inventory" a signed inventory alone may vouch for every TPM.
    if not count and configuration.trust.ek_certificate == "required":
        places = ", ".join(str(configuration.path(path)) for path in configuration.trust.ek_anchors)
        yield UnsafeConfiguration(
            "anchors-empty",
            f"no TPM manufacturer is accepted: put their root certificates (PEM) into {places or 'anchors'}",
        )


def anchor_files(configuration: Configuration) -> tuple[Path, ...]:
    """Return the files of trust.ek_anchors: each as it is named, of a directory all its files by name."""
    found: list[Path] = []
    for path in configuration.trust.ek_anchors:
        place = configuration.path(path)
        found += sorted(file for file in place.iterdir() if file.is_file()) if place.is_dir() else [place]
    return tuple(found)


def _operators(configuration: Configuration) -> Findings:
    path = configuration.path(configuration.trust.operators)
    if not path.is_file():
        yield UnsafeConfiguration("operators-missing", f"{path} is missing: nobody could sign a change")
        return
    if stat.S_IMODE(path.stat().st_mode) & _WRITABLE:
        yield UnsafeConfiguration("operators-writable", f"others can name operators in {path}: chmod 0644 {path}")
    try:
        names = _principals(configuration)
    except ChangeRefused as error:
        yield UnsafeConfiguration("operators-malformed", f"{path}: {error}")
        return
    if len(names) < configuration.trust.approvals:
        yield UnsafeConfiguration(
            "approvals-unreachable",
            f"{path} names {len(names)} operators, but trust.approvals asks for {configuration.trust.approvals}: "
            "no change could ever apply",
        )


def _principals(configuration: Configuration) -> tuple[str, ...]:
    """Return the operators' names. *Raises* ChangeRefused (operators-malformed), OSError."""
    text = configuration.path(configuration.trust.operators).read_text(encoding="utf-8")
    try:
        return parse_operators(text, threshold=1).principals
    except ChangeRefused:
        if any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines()):
            raise
        return ()  # a list of nobody: what is wrong is not its form


def _development_operator(configuration: Configuration) -> bool:
    """Return whether the development operator decides: by the list, or by a key on this host."""
    try:
        listed = DEVELOPMENT_OPERATOR in _principals(configuration)
    except (OSError, ChangeRefused):
        listed = False
    return listed or configuration.path(OPERATOR_KEY).exists()


# --- Keys that sign -------------------------------------------------------------------------------------------------


def _issuer(configuration: Configuration) -> Findings:
    key, certificate = (
        configuration.path(path) for path in (configuration.issuance.key, configuration.issuance.certificate)
    )
    for path in (key, certificate):
        if not path.is_file():
            yield UnsafeConfiguration("issuer-missing", f"{path} is missing: nothing could be issued")
            return
    chain = _certificates(certificate)
    if not chain:
        yield UnsafeConfiguration("issuer-malformed", f"{certificate} is not a certificate in PEM")
        return
    try:
        issuer = development_issuer(
            key.read_bytes(), chain[0].public_bytes(Encoding.DER), dns_suffix=configuration.trust.dns_suffix
        )
    except PkiError as error:
        yield UnsafeConfiguration("issuer-malformed", f"{certificate}: {error}")
        return
    if issuer.identity.trust_domain != configuration.trust.domain:
        yield UnsafeConfiguration(
            "issuer-domain", f"{certificate} speaks for {issuer.identity.trust_domain}, trust.domain is another"
        )
    if chain[0].not_valid_after_utc <= _now() + datetime.timedelta(seconds=configuration.issuance.lifetime):
        yield UnsafeConfiguration("issuer-expired", f"{certificate} ends before a certificate issued now would")


def _result_key(configuration: Configuration) -> Findings:
    path = configuration.path(configuration.attestation.result_key)
    if not path.is_file():
        yield UnsafeConfiguration("result-key-missing", f"{path} is missing: attestation results could not be signed")
        return
    key = _private_key(path)
    if not isinstance(key, Ed25519PrivateKey):
        yield UnsafeConfiguration("result-key-malformed", f"{path} is not an Ed25519 key in PEM")
        return
    issuer = _private_key(configuration.path(configuration.issuance.key))
    if isinstance(issuer, Ed25519PrivateKey) and issuer.private_bytes_raw() == key.private_bytes_raw():
        yield UnsafeConfiguration("key-reused", f"{path} is also the issuer's key: one key, one purpose")


# --- Database ----------------------------------------------------------------------------------------------


def _database(configuration: Configuration) -> Findings:
    path = sqlite_file(configuration)
    if path is not None and not path.is_file():
        yield UnsafeConfiguration("schema-old", f"there is no {path}: run `attestd migrate`")
        return
    try:
        store = Store.open(configuration.database_url)
    except ValueError as error:
        yield UnsafeConfiguration("database-unknown", f"database: {error}")
        return
    try:
        store.require_schema()
    except SchemaMismatch as error:
        yield UnsafeConfiguration("schema-old", f"{error} (attestd migrate)")
    finally:
        store.close()


_CHECKS: Final[tuple[Callable[[Configuration], Findings], ...]] = (
    _directory,
    _secrets,
    _database_file,
    _writable,
    _development,
    _tls,
    _names,
    _anchor,
    _issuer,
    _result_key,
    _operators,
    _gateway,
    _database,
    _ek_anchors,
)


# --- Reading --------------------------------------------------------------------------------------------------------


def _anchors_in(path: Path) -> int:
    """Return how many certificates a file of manufacturers' anchors holds, or 0 where one of them cannot be read.

    Manufacturers' encodings deviate; the reader that appraises them is the one that counts here.
    """
    try:
        return len([parse_certificate(der) for der in split_bundle(path.read_bytes())])
    except (OSError, PkiError):
        return 0


def _certificates(path: Path) -> list[x509.Certificate]:
    """Return the certificates of a PEM file of our own, or none where it is not one."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return []


def _private_key(path: Path) -> PrivateKeyTypes | None:
    try:
        return load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _names_of(certificate: x509.Certificate) -> frozenset[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(names.get_values_for_type(x509.DNSName)) | {
        str(address) for address in names.get_values_for_type(x509.IPAddress)
    }


def _now() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(clock.now_ms() // 1000, datetime.UTC)
