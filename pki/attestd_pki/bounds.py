"""The fixed sizes of what this package itself issues, each with its reason.

Proves nothing. These are properties of the formats (they change only together with a profile version). What bounds the
*work* on a stranger's certificates is never here: it is an argument (`chain.Budget`) that the caller takes from its own
list of bounds, because this package lies below the verifier and cannot import it.
"""

from typing import Final

MAX_GRANT: Final = 8192
"""Bytes of an encoded grant: four VPN keys of 2 KiB would not fit, four X25519 or SSH keys leave most of it free."""
MAX_GRANT_DEPTH: Final = 4
"""Containers inside containers of a grant: map, list of VPN keys, pair; one to spare."""
GRANT_ID_BYTES: Final = 16
"""128 bits: drawn at random they never repeat, so the store of used grants can key on them."""
MAX_RESULT_ID: Final = 64
"""Bytes of the name of an attestation result; 16 (a random id) and 32 (a digest) are in use."""
MAX_SPKI: Final = 1024
"""Bytes of a subject public key; RSA 4096 needs 550."""
MAX_VPN_KEYS: Final = 4
"""One key for each kind of tunnel."""
MAX_VPN_KEY: Final = 1024
"""Bytes of one VPN public key; X25519 needs 32, an RSA key of 4096 bits 550."""
MAX_TEXT: Final = 128
"""Characters of a grant's short texts (profile names, kinds of keys)."""
MAX_URL: Final = 512
"""Characters of a CRL distribution point; the certificate has to stay small enough for one IKE or EAP fragment."""

CERTIFICATE_SECONDS: Final = 24 * 3600
"""Longest life of a device certificate. Revocation must not be the only thing that ends a device's access."""
BACKDATE_SECONDS: Final = 300
"""Devices without a battery-backed clock start a few minutes behind; more than that hides a wrong clock of ours."""
GRANT_SECONDS: Final = 300
"""Longest time from minting to redeeming: a grant that lay about longer was not asked for by anyone who waits."""
CA_SECONDS: Final = 20 * 366 * 24 * 3600
"""Longest life of a CA certificate: the length of a fleet's life in the field."""

MIN_SERIAL: Final = 1 << 64
"""A serial below 2^64 was not drawn at random with 128 bits (chance 2^-64); CA/Browser BR 7.1 asks for 64 bits."""
MAX_SERIAL: Final = (1 << 159) - 1
"""RFC 5280, 4.1.2.2: at most 20 octets and positive."""

MAX_CRL_ENTRIES: Final = 100_000
"""Certificates live a day, so a list of this length means that a fleet of 100,000 was revoked at once."""
CRL_SECONDS: Final = 7 * 24 * 3600
"""Longest time between thisUpdate and nextUpdate; a longer one would outlive every certificate it can name."""

MAX_CERTIFICATE: Final = 16_384
"""Bytes of one foreign certificate, a hard stop above the caller's own bound; vendors' stay under 3 KiB, and a
certificate with post-quantum keys and signatures (ML-DSA-65) has 6 KiB."""
MAX_WRAPPED: Final = 32_768
"""Bytes of one certificate with its wrapping: base64 and JSON add a half, NV padding 2 KiB."""
MAX_LAYERS: Final = 4
"""Wrappings inside each other: JSON or PEM, base64, TCG header, OCTET STRING."""
MAX_NV_CERTIFICATES: Final = 8
"""Certificates one after the other in one NV index; the longest chain seen has 4."""
MAX_SIBLINGS: Final = 256
"""Elements of one ASN.1 container; names and extensions of vendors have under 30."""
MAX_RSA_BITS: Final = 8192
"""Of a foreign key. Manufacturers use 4096 at most; one verification at 16,384 bits would cost a stranger's victim 5 ms."""
MAX_RSA_EXPONENT_BITS: Final = 32
"""The cost of a verification grows with the exponent, which is 65537 everywhere but in a few keys of 2^32 - 1."""
