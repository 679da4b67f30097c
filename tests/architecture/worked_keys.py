"""The keys of the worked exchange: each derives from a label, so all of them are public and belong nowhere else."""

import hashlib

from cryptography.hazmat.primitives.asymmetric import ec

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256 (SP 800-186, 3.2.1.3)."""


def seed(label: str) -> bytes:
    """Return 32 bytes that stand for randomness: SHA-256 of the label."""
    return hashlib.sha256(f"attestd worked example: {label}".encode()).digest()


def key(label: str) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key whose private number is `seed(label)`, reduced to the curve's order."""
    return ec.derive_private_key(_number(label), ec.SECP256R1())


def _number(label: str) -> int:
    return int.from_bytes(seed(label), "big") % (ORDER - 1) + 1


ON_P256 = ("endorsement key", "attestation key", "device key", "ephemeral key", "manufacturer")
"""The ephemeral key is the one that the verifier wraps its secret with."""
PRIVATE = {
    **{label: _number(label).to_bytes(32, "big") for label in ON_P256},
    "tunnel key": seed("wireguard key"),
    "result key": seed("result key"),
    "authority": seed("authority"),
}
"""Label → private key: the number of a P-256 key, 32 bytes of an X25519 (tunnel) or Ed25519 (result, authority) key."""
