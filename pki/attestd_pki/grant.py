"""The grant: the decision that one device may hold one credential, as deterministic CBOR.

Proves, of a decoded grant, that it has one encoding (decode re-encodes and compares), that every field has the type and
size of its definition, that nothing unknown rode along, and that its names follow from its endorsement key. Assumes
nothing about the bytes. Does not prove that anybody granted it: that comes from who hands it over (a passing
attestation result in one process, a quorum's signatures between processes).

Wire format: one CBOR map with text keys (RFC 8949, 4.2.1), example in diagnostic notation:

    {"uri": "spiffe://fleet.example/device/mfrgg…", "profile": "edge", "version": 1, "ak_name": h'000b…',
     "dns_name": "mfrgg….fleet.example", "grant_id": h'…16', "vpn_keys": [["wireguard", h'…32']], "device_id": "mfrgg…",
     "ek_digest": h'…32', "minted_at": 1795350000, "not_after": 1795436100, "result_id": h'…16',
     "expires_at": 1795350060, "not_before": 1795349700, "profile_version": 3, "evidence_digest": h'…32',
     "subject_public_key": h'3059…'}
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final, Self

import cbor2

from attestd_pki import bounds, names
from attestd_pki.errors import PkiError

GRANT_VERSION: Final = 1
_MAX_TIME = 253402300799  # 9999-12-31T23:59:59Z, the last instant of X.509 (RFC 5280, 4.1.2.5)


def _refuse(field: str, want: str) -> PkiError:
    return PkiError("grant-malformed", f"{field} is not {want}")


@dataclass(frozen=True, slots=True)
class Grant:
    """One permission to mint one certificate. Constructing it checks it. *Raises* PkiError `grant-malformed`, or a name's code.

    Times are unix seconds. `ek_digest` is SHA-256 over the endorsement key's DER SubjectPublicKeyInfo, and `device_id`
    is that digest in base32. `ak_name` is the TPM name of the attestation key: two bytes of hash algorithm, then the
    digest. `subject_public_key` is a DER SubjectPublicKeyInfo. `vpn_keys` are (kind, public key), sorted by kind.
    """

    version: int
    grant_id: bytes
    device_id: str
    ek_digest: bytes
    ak_name: bytes
    subject_public_key: bytes
    uri: str
    dns_name: str
    vpn_keys: tuple[tuple[str, bytes], ...]
    not_before: int
    not_after: int
    evidence_digest: bytes
    profile: str
    profile_version: int
    result_id: bytes
    minted_at: int
    expires_at: int

    def __post_init__(self) -> None:
        for field, check in _SHAPES.items():
            check(field, getattr(self, field))
        _check_names(self)
        _check_times(self)

    def encode(self) -> bytes:
        """Return the deterministic CBOR of this grant (RFC 8949, 4.2.1: shortest forms, keys in bytewise order)."""
        body = {field.name: getattr(self, field.name) for field in fields(self)}
        body["vpn_keys"] = [[kind, key] for kind, key in self.vpn_keys]
        return cbor2.dumps(body, canonical=True)

    def digest(self) -> bytes:
        """Return SHA-256 over the encoding: what the certificate carries and the log records."""
        return hashlib.sha256(self.encode()).digest()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the grant that `data` encodes, at most 8 KiB.

        *Raises* PkiError: `grant-too-large`, `grant-not-cbor`, `grant-malformed` (a missing, unknown or ill-typed
        field), `grant-not-deterministic` (a second encoding of a good grant), or the code of a name.
        """
        if len(data) > bounds.MAX_GRANT:
            raise PkiError("grant-too-large", f"a grant has at most {bounds.MAX_GRANT} bytes, not {len(data)}")
        body = _load(data)
        expected = {field.name for field in fields(cls)}
        if set(body) != expected:
            odd = sorted(key[:32] for key in set(body) ^ expected)
            raise PkiError("grant-malformed", f"missing or unknown fields: {odd[:4]!r}")
        grant = cls(**{**body, "vpn_keys": _pairs(body["vpn_keys"])})
        if grant.encode() != data:
            raise PkiError("grant-not-deterministic", "the bytes are not the one encoding of what they say")
        return grant


def _load(data: bytes) -> dict[str, Any]:
    try:
        body = cbor2.loads(
            data,
            max_depth=bounds.MAX_GRANT_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )
    except (cbor2.CBORDecodeError, ValueError, TypeError, ArithmeticError) as error:
        # Beside its own error, cbor2 lets those of the Python types behind its tags through.
        raise PkiError("grant-not-cbor", f"not CBOR: {type(error).__name__}") from error
    if type(body) is not dict or not all(type(key) is str for key in body):
        raise PkiError("grant-malformed", "a grant is a map with text keys")
    return body


def _pairs(value: object) -> tuple[tuple[str, bytes], ...]:
    if type(value) is not list or not all(type(pair) is list and len(pair) == 2 for pair in value):
        raise _refuse("vpn_keys", "a list of pairs")
    return tuple((kind, key) for kind, key in value)


# --- shapes ---------------------------------------------------------------------------------------------------------


def _integer(low: int, high: int) -> Callable[[str, object], None]:
    def check(field: str, value: object) -> None:
        # `type(...) is int` because True is an int and CBOR's true must not pass for 1.
        if type(value) is not int or not low <= value <= high:
            raise _refuse(field, f"an integer from {low} to {high}")

    return check


def _octets(low: int, high: int) -> Callable[[str, object], None]:
    def check(field: str, value: object) -> None:
        if type(value) is not bytes or not low <= len(value) <= high:
            raise _refuse(field, f"a byte string of {low} to {high} bytes")

    return check


def _text(field: str, value: object) -> None:
    if type(value) is not str or not 0 < len(value) <= bounds.MAX_URL or not value.isascii() or not value.isprintable():
        raise _refuse(field, "a printable ASCII text")


def _label(field: str, value: object) -> None:
    _text(field, value)
    names.parse_label(str(value))


def _keys(field: str, value: object) -> None:
    if type(value) is not tuple or len(value) > bounds.MAX_VPN_KEYS:
        raise _refuse(field, f"a tuple of at most {bounds.MAX_VPN_KEYS} pairs")
    for pair in value:
        if type(pair) is not tuple or len(pair) != 2:
            raise _refuse(field, "made of pairs (kind, key)")
        _label(field, pair[0])
        _octets(1, bounds.MAX_VPN_KEY)(field, pair[1])
    kinds = [pair[0] for pair in value]
    if kinds != sorted(set(kinds)):
        raise _refuse(field, "sorted by kind with each kind once")


_SHAPES: Final[dict[str, Callable[[str, object], None]]] = {
    "version": _integer(GRANT_VERSION, GRANT_VERSION),
    "grant_id": _octets(bounds.GRANT_ID_BYTES, bounds.GRANT_ID_BYTES),
    "device_id": _text,
    "ek_digest": _octets(32, 32),
    # TPM 2.0 Part 1, 16: nameAlg (2 bytes) and a digest of 20 to 64 bytes.
    "ak_name": _octets(22, 66),
    "subject_public_key": _octets(1, bounds.MAX_SPKI),
    "uri": _text,
    "dns_name": _text,
    "vpn_keys": _keys,
    "not_before": _integer(0, _MAX_TIME),
    "not_after": _integer(0, _MAX_TIME),
    "evidence_digest": _octets(32, 32),
    "profile": _label,
    "profile_version": _integer(0, 2**31 - 1),
    "result_id": _octets(1, bounds.MAX_RESULT_ID),
    "minted_at": _integer(0, _MAX_TIME),
    "expires_at": _integer(0, _MAX_TIME),
}


def _check_names(grant: Grant) -> None:
    if names.parse_device_id(grant.device_id) != names.device_id_of_digest(grant.ek_digest):
        raise PkiError("grant-device-id", "the device id is not the hash of the endorsement key")
    trust_domain = grant.uri.removeprefix("spiffe://").partition("/")[0]
    if grant.uri != names.spiffe_id(trust_domain, grant.device_id):
        raise PkiError("grant-uri", "the URI is not the SPIFFE id of the device")
    suffix = grant.dns_name.partition(".")[2]
    if grant.dns_name != names.dns_name(grant.device_id, suffix):
        raise PkiError("grant-dns-name", "the DNS name does not begin with the device id")


def _check_times(grant: Grant) -> None:
    if not 0 < grant.expires_at - grant.minted_at <= bounds.GRANT_SECONDS:
        raise PkiError("grant-lifetime", f"a grant lives at most {bounds.GRANT_SECONDS} seconds")
    if not 0 < grant.not_after - grant.not_before <= bounds.CERTIFICATE_SECONDS:
        raise PkiError("grant-validity", f"a certificate lives at most {bounds.CERTIFICATE_SECONDS} seconds")
    if not 0 <= grant.minted_at - grant.not_before <= bounds.BACKDATE_SECONDS:
        raise PkiError(
            "grant-backdated", f"a certificate begins at most {bounds.BACKDATE_SECONDS} seconds before its grant"
        )
