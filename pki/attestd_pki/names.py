"""What things are called: device ids, SPIFFE ids, DNS names, trust domains, labels.

Proves that a name has exactly one spelling and can be shown on a console, in a log line and in a certificate as it is.
A device's id is a hash of its endorsement key; nobody chooses it (K09). Assumes nothing about its inputs. Does not prove
that a device owns a name: only a redeemed grant does that.

Standard library only, because the agent imports it.
"""

import base64
import binascii
import hashlib
import re
from typing import Final

from attestd_pki.errors import PkiError

DEVICE_ID_CHARACTERS: Final = 52
"""Base32 of 256 bits without padding (RFC 4648, 6); below the 63 of a DNS label (RFC 1035, 2.3.4)."""

_DEVICE_ID = re.compile(r"[a-z2-7]{52}")
_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_HUMAN_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
# RFC 1035, 2.3.4: 255 octets on the wire are 253 characters; a device id and its dot stand before the domain.
_MAX_DOMAIN = 253 - DEVICE_ID_CHARACTERS - 1


def device_id(spki: bytes) -> str:
    """Return the id of the device whose endorsement key has this DER SubjectPublicKeyInfo.

    52 lowercase base32 characters of its SHA-256, without padding. *Assumes* that the caller has built or checked the
    DER form itself, so that one key has one encoding. *Raises* PkiError `device-key-empty`.
    """
    if not spki:
        raise PkiError("device-key-empty", "a device id needs a public key")
    return device_id_of_digest(hashlib.sha256(spki).digest())


def device_id_of_digest(ek_digest: bytes) -> str:
    """Return the device id for `ek_digest`, the 32 bytes of SHA-256 over the endorsement key's SubjectPublicKeyInfo.

    *Raises* PkiError `device-digest-size`.
    """
    if len(ek_digest) != 32:
        raise PkiError("device-digest-size", f"a SHA-256 digest has 32 bytes, not {len(ek_digest)}")
    return base64.b32encode(ek_digest).decode("ascii").rstrip("=").lower()


def parse_device_id(text: str) -> str:
    """Return `text` if it is the one spelling of a device id. *Raises* PkiError `device-id-malformed`.

    256 bits fill 51 characters and one bit of the 52nd, so the unused four bits must be zero: otherwise sixteen
    spellings would name one device (RFC 4648, 3.5).
    """
    if not _DEVICE_ID.fullmatch(text):
        raise PkiError("device-id-malformed", "a device id is 52 characters of lowercase base32")
    try:
        digest = base64.b32decode(text.upper() + "====")
    except binascii.Error as error:  # pragma: no cover - the pattern leaves nothing for the decoder to refuse
        raise PkiError("device-id-malformed", "a device id is 52 characters of lowercase base32") from error
    if device_id_of_digest(digest) != text:
        raise PkiError("device-id-malformed", "the unused bits of the last character are not zero")
    return text


def parse_trust_domain(text: str) -> str:
    """Return `text` if it is a trust domain in lowercase DNS form. *Raises* PkiError `trust-domain-malformed`.

    Stricter than SPIFFE-ID 2.1 (which also allows underscores and 255 characters), so that every trust domain can be a
    DNS suffix with a device id before it.
    """
    if len(text) > _MAX_DOMAIN or not all(_DNS_LABEL.fullmatch(label) for label in text.split(".")):
        raise PkiError("trust-domain-malformed", "a trust domain is a lowercase DNS name of at most 200 characters")
    return text


def parse_dns_suffix(text: str) -> str:
    """Return `text` if a device id can stand before it as a DNS name. *Raises* PkiError `dns-suffix-malformed`.

    A last label of digits alone is refused: such a name reads as an IPv4 address (RFC 3696, 2).
    """
    labels = text.split(".")
    if len(text) > _MAX_DOMAIN or not all(_DNS_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        raise PkiError("dns-suffix-malformed", "a DNS suffix is a lowercase DNS name of at most 200 characters")
    return text


def spiffe_id(trust_domain: str, device_id: str) -> str:
    """Return `spiffe://<trust_domain>/device/<device_id>` (SPIFFE-ID 2). *Raises* PkiError for either part."""
    return f"spiffe://{parse_trust_domain(trust_domain)}/device/{parse_device_id(device_id)}"


def dns_name(device_id: str, suffix: str) -> str:
    """Return `<device_id>.<suffix>`, at most 253 characters. *Raises* PkiError for either part."""
    return f"{parse_device_id(device_id)}.{parse_dns_suffix(suffix)}"


def parse_label(text: str) -> str:
    """Return `text` if it is a name that people give and consoles can show. *Raises* PkiError `label-malformed`.

    1 to 63 of a-z, 0-9, dot, underscore and hyphen, a letter or digit at both ends: no space, no control character, no
    markup, no path, no second script that looks like the first (E11, T08).
    """
    if not _HUMAN_LABEL.fullmatch(text):
        raise PkiError(
            "label-malformed",
            f"{text[:63]!r} is no name: 1 to 63 of a-z, 0-9, '.', '_', '-', a letter or digit at both ends",
        )
    return text
