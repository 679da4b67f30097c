"""The attestation key and the keys it certifies: what their public areas must say.

Everything is read from the public area, from which the TPM name is derived; a name that a client computed is never used.
Assumes nothing of the bytes. Proves nothing about the TPM by itself: that the area is a real TPM's follows from credential
activation, which works only if the TPM holds an object with exactly this name (TPM 2.0 Part 3, 12.5).
"""

from typing import Final

from attestd.errors import Refused
from attestd.protocol.reasons import Reason
from attestd.tpm.attest import CertifyBody, parse_attest
from attestd.tpm.errors import Malformed
from attestd.tpm.public import Attribute, Public, parse_public, public_key
from attestd.tpm.signature import BadSignature, parse_signature, verify

TPM_GENERATED_VALUE: Final = 0xFF544347
"""Magic of every structure that a TPM itself made (TPM 2.0 Part 2, 6.2): a restricted key signs no foreign bytes that start so."""

AK_REQUIRED: Final = (
    Attribute.FIXED_TPM
    | Attribute.FIXED_PARENT
    | Attribute.SENSITIVE_DATA_ORIGIN
    | Attribute.RESTRICTED
    | Attribute.SIGN
)
AK_FORBIDDEN: Final = Attribute.DECRYPT | Attribute.ST_CLEAR | Attribute.ENCRYPTED_DUPLICATION
DEVICE_KEY_REQUIRED: Final = (
    Attribute.FIXED_TPM | Attribute.FIXED_PARENT | Attribute.SENSITIVE_DATA_ORIGIN | Attribute.SIGN
)
DEVICE_KEY_FORBIDDEN: Final = Attribute.DECRYPT | Attribute.RESTRICTED | Attribute.ENCRYPTED_DUPLICATION
AK_SCHEMES: Final = ("ecdsa", "rsassa", "rsapss")
AK_HASHES: Final = ("sha256", "sha384", "sha512")
NAME_HASHES: Final = AK_HASHES
"""Hashes of a key's name. Under SHA-1 two public areas with one name can be made (SP 800-131A rev. 2, table 8)."""
MIN_RSA_BITS: Final = 2048


def check_attestation_key(area: bytes) -> Public:
    """Return the attestation key of a TPM2B_PUBLIC.

    It must be restricted, able to sign, unable to decrypt, made in the TPM and unable to leave it, and pin scheme and hash.
    Its name is what activation proves, so the name's hash must be one under which no second area has the same name.
    Raises `Refused` (ak-malformed, ak-attributes, ak-scheme).
    """
    try:
        key = parse_public(area)
        public_key(key)
    except Malformed as error:
        raise Refused(Reason.AK_MALFORMED, str(error)) from None
    if key.attributes & AK_REQUIRED != AK_REQUIRED or key.attributes & AK_FORBIDDEN:
        raise Refused(Reason.AK_ATTRIBUTES, f"attributes {key.attributes:#010x}")
    if (
        key.scheme not in AK_SCHEMES
        or key.scheme_hash not in AK_HASHES
        or key.name_algorithm not in NAME_HASHES
        or _is_small(key)
    ):
        raise Refused(Reason.AK_SCHEME, f"{key.kind} {key.scheme} {key.scheme_hash}, name by {key.name_algorithm}")
    return key


def check_device_key(area: bytes) -> Public:
    """Return the device's own key of a TPM2B_PUBLIC: signs for TLS and IKE, made in the TPM and unable to leave it.

    Raises `Refused` (device-key-malformed, device-key-attributes).
    """
    try:
        key = parse_public(area)
        public_key(key)
    except Malformed as error:
        raise Refused(Reason.DEVICE_KEY_MALFORMED, str(error)) from None
    if (
        key.attributes & DEVICE_KEY_REQUIRED != DEVICE_KEY_REQUIRED
        or key.attributes & DEVICE_KEY_FORBIDDEN
        or key.name_algorithm not in NAME_HASHES
        or not _certifiable(key)
    ):
        detail = f"{key.kind}, attributes {key.attributes:#010x}, name by {key.name_algorithm}"
        raise Refused(Reason.DEVICE_KEY_ATTRIBUTES, detail)
    return key


def check_certification(
    attestation_key: Public, device_key: Public, *, attest: bytes, signature: bytes, qualifying_data: bytes
) -> None:
    """Check TPM2_Certify of the device key by the attestation key over this enrolment's binding (TPM 2.0 Part 3, 18.2).

    Assumes that both keys passed their own checks. The certified name is compared whole with the name derived here.
    Raises `Refused` (device-key-not-certified).
    """
    try:
        statement = parse_attest(attest)
        parsed = parse_signature(signature)
        if statement.magic != TPM_GENERATED_VALUE or not isinstance(statement.body, CertifyBody):
            raise Refused(Reason.DEVICE_KEY_NOT_CERTIFIED, f"magic {statement.magic:#x}, {statement.kind}")
        verify(attestation_key, parsed, attest)
    except (Malformed, BadSignature) as error:
        raise Refused(Reason.DEVICE_KEY_NOT_CERTIFIED, str(error)) from None
    if statement.body.name != device_key.name:
        raise Refused(Reason.DEVICE_KEY_NOT_CERTIFIED, "another object's name")
    if statement.extra_data != qualifying_data:
        raise Refused(Reason.DEVICE_KEY_NOT_CERTIFIED, "bound to another exchange")


def _certifiable(key: Public) -> bool:
    """Say whether the certificate profile has a place for the key (attestd_pki.profiles.load_subject_key)."""
    if key.kind == "ecc":
        return key.curve in ("P-256", "P-384")
    return key.kind == "rsa" and MIN_RSA_BITS <= key.key_bits <= 4096


def _is_small(key: Public) -> bool:
    return key.kind == "rsa" and (key.key_bits or 0) < MIN_RSA_BITS
