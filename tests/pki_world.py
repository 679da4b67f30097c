"""A small world to issue in: one development authority, one device, one grant. Everything is fixed, so failures repeat."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from attestd_pki import names
from attestd_pki.development import DevelopmentBackend, development_issuer, new_development_ca
from attestd_pki.grant import Grant
from attestd_pki.issuer import IssuedCertificate, Issuer, prepare, redeem

NOW = 1_795_350_000
TRUST_DOMAIN = "fleet.example"
SUFFIX = "devices.fleet.example"
CRL_URL = "http://crl.fleet.example/devices.crl"
SERIAL = (1 << 127) + 12345
CA_SERIAL = (1 << 126) + 1

CA_KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"authority").digest())
OTHER_CA_KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"another authority").digest())
DEVICE_KEY = ec.derive_private_key(0x1234567, ec.SECP256R1())
EK_SPKI = (
    ec.derive_private_key(0x7654321, ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
)


def spki(key: Any) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a private key's public half."""
    return bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def pem(key: Any) -> bytes:
    """Return a private key as unencrypted PKCS#8 PEM."""
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def grant_fields(**changes: Any) -> dict[str, Any]:
    """Return the fields of a good grant, with these changed."""
    device = names.device_id(EK_SPKI)
    return {
        "version": 1,
        "grant_id": bytes(range(16)),
        "device_id": device,
        "ek_digest": hashlib.sha256(EK_SPKI).digest(),
        "ak_name": b"\x00\x0b" + hashlib.sha256(b"ak").digest(),
        "subject_public_key": spki(DEVICE_KEY),
        "uri": names.spiffe_id(TRUST_DOMAIN, device),
        "dns_name": names.dns_name(device, SUFFIX),
        "vpn_keys": (("wireguard", bytes(32)),),
        "not_before": NOW - 300,
        "not_after": NOW + 3600,
        "evidence_digest": hashlib.sha256(b"evidence").digest(),
        "profile": "edge",
        "profile_version": 3,
        "result_id": bytes(16),
        "minted_at": NOW,
        "expires_at": NOW + 60,
        **changes,
    }


def a_grant(**changes: Any) -> Grant:
    """Return a good grant, with these fields changed."""
    return Grant(**grant_fields(**changes))


@dataclass
class MemoryLedger:
    """A ledger of used grants that forgets with the process."""

    used: dict[bytes, bytes] = field(default_factory=dict)

    def claim(self, grant_id: bytes, digest: bytes) -> bool:
        """Record the grant; True for the first caller."""
        if grant_id in self.used:
            return False
        self.used[grant_id] = digest
        return True


def an_authority(key: Ed25519PrivateKey = CA_KEY, *, name: str = "bench") -> bytes:
    """Return the DER certificate of a development authority that lives a year around NOW."""
    return new_development_ca(
        name,
        TRUST_DOMAIN,
        key=DevelopmentBackend(key),
        not_before=NOW - 86400,
        not_after=NOW + 365 * 86400,
        serial=CA_SERIAL,
    )


def an_issuer(key: Ed25519PrivateKey = CA_KEY) -> Issuer:
    """Return a development issuer."""
    return development_issuer(pem(key), an_authority(key), dns_suffix=SUFFIX)


def issue(grant: Grant, issuer: Issuer | None = None, *, serial: int = SERIAL) -> IssuedCertificate:
    """Prepare, redeem and issue `grant` at NOW."""
    issuer = issuer or an_issuer()
    prepared = prepare(grant, issuer=issuer.identity, serial=serial, crl_url=CRL_URL)
    return issuer.issue(prepared, redeem(grant, now=NOW, ledger=MemoryLedger()), now=NOW)
