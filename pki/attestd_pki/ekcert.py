"""The endorsement key certificate: is it one, of which chip, and does a manufacturer stand behind it.

Proves, of an `EkVerdict`, that the certificate has the purpose of an endorsement key, belongs to the very public key that
was shown, and chains to a pinned anchor (`chain`). Assumes that the caller got that public key out of the TPM's own
structures. Does not prove that whoever sent the certificate holds the key: activation does (TPM 2.0 Part 1, 24).

Profile: TCG EK Credential Profile for TPM Family 2.0, level 0, version 2.5, 3.2. What decides is refused when it is
wrong; what merely deviates is recorded, because chips that were sold cannot be corrected.
"""

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from attestd_pki import extensions
from attestd_pki.certificate import Certificate
from attestd_pki.chain import NO_EXCEPTIONS, Budget, Chain, Exceptions, TrustStore, build_and_verify_chain
from attestd_pki.errors import PkiError
from attestd_pki.signatures import canonical_spki

EK_PURPOSE: Final = "2.23.133.8.1"
"""tcg-kp-EKCertificate."""

MANUFACTURERS: Final = {
    "AMD": "AMD",
    "ANT": "Ant Group",
    "ATML": "Atmel",
    "BRCM": "Broadcom",
    "CSCO": "Cisco",
    "FLYS": "Flyslice",
    "GOOG": "Google",
    "HPI": "HP Inc.",
    "HPE": "Hewlett Packard Enterprise",
    "HISI": "Huawei",
    "IBM": "IBM",
    "IFX": "Infineon",
    "INTC": "Intel",
    "LEN": "Lenovo",
    "MSFT": "Microsoft",
    "NSG": "NSING",
    "NSM": "National Semiconductor",
    "NTC": "Nuvoton",
    "NTZ": "Nationz",
    "QCOM": "Qualcomm",
    "ROCC": "Fuzhou Rockchip",
    "SEAL": "Wisekey",
    "SECE": "SECEDGE",
    "SMSC": "Microchip (SMSC)",
    "SMSN": "Samsung",
    "SNS": "Sinosun",
    "STM": "STMicroelectronics",
    "TXN": "Texas Instruments",
    "VMW": "VMware",
    "WEC": "Winbond",
    "AMZN": "Amazon",
}
"""TCG TPM Vendor ID Registry, and two makers of virtual TPMs that are not in it. `id:00001014` is the software TPM's own
mark: 0x1014 is IBM's PCI vendor number."""

_SOFTWARE_TPM: Final = "id:00001014"
_ID = re.compile(r"id:([0-9A-Fa-f]{8})")
_MIN_RSA_BITS: Final = 2048
_CURVES: Final = frozenset({"P-256", "P-384", "P-521"})
_TRANSPORT: Final = {"rsa": extensions.KEY_ENCIPHERMENT, "ec": extensions.KEY_AGREEMENT}


@dataclass(frozen=True, slots=True)
class EkInfo:
    """What an endorsement key certificate says of its chip; empty where it says nothing.

    `manufacturer` is `id:` and eight hexadecimal digits, `manufacturer_name` its readable form.
    """

    manufacturer: str
    manufacturer_name: str
    model: str
    firmware_version: str
    deviations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EkVerdict:
    """A certificate that belongs to a key and chains to an anchor; all deviations are in one place."""

    info: EkInfo
    chain: Chain
    spki: bytes
    deviations: tuple[str, ...]


def verify_ek_certificate(
    certificate: Certificate,
    ek_spki: bytes,
    *,
    candidates: Iterable[Certificate],
    store: TrustStore,
    at: int,
    budget: Budget,
    exceptions: Exceptions = NO_EXCEPTIONS,
) -> EkVerdict:
    """Return the verdict on `certificate` for the endorsement key `ek_spki` (DER, canonical form) at `at` (unix seconds).

    The cheap checks come first: a stranger pays for signatures only with a certificate that fits. *Raises* PkiError as
    `check_ek_profile`, `match_ek_key` and `chain.build_and_verify_chain`.
    """
    info = check_ek_profile(certificate)
    match_ek_key(certificate, ek_spki)
    chain = build_and_verify_chain(certificate, candidates, store, at=at, budget=budget, exceptions=exceptions)
    return EkVerdict(info, chain, ek_spki, info.deviations + chain.deviations)


def match_ek_key(certificate: Certificate, ek_spki: bytes) -> None:
    """Refuse a certificate for another key than `ek_spki` (DER, canonical form). *Raises* PkiError `ek-other-key` (K04)."""
    if not hmac.compare_digest(canonical_spki(certificate), ek_spki):
        raise PkiError("ek-other-key", "the certificate is for another endorsement key")


def check_ek_profile(certificate: Certificate) -> EkInfo:
    """Return what the certificate says of its chip, if its purpose is to certify an endorsement key.

    *Raises* PkiError `ek-version`, `ek-is-ca`, `ek-eku` (wrong or missing), `ek-key-usage`, `ek-key-algorithm`,
    `ek-key-size`, or `extension-malformed`.
    """
    if certificate.version != 3:
        raise PkiError("ek-version", f"an endorsement key certificate has version 3, not {certificate.version}")
    found = [
        *_check_authority(certificate),
        *_check_purpose(certificate),
        *_check_usage(certificate),
        *_check_key(certificate),
    ]
    manufacturer, model, version, odd = _chip(certificate)
    return EkInfo(manufacturer, manufacturer_name(manufacturer), model, version, tuple(found + odd))


def _check_authority(certificate: Certificate) -> list[str]:
    constraints = extensions.basic_constraints(certificate)
    if constraints is None:
        return ["basic-constraints-absent"]
    if constraints[0]:
        raise PkiError("ek-is-ca", "an endorsement key certificate is no authority")
    return []


def _check_purpose(certificate: Certificate) -> list[str]:
    purposes = extensions.extended_key_usage(certificate)
    if purposes is None or EK_PURPOSE not in purposes:
        raise PkiError("ek-eku", f"the certificate is not for an endorsement key (extended key usage {EK_PURPOSE})")
    return [] if purposes == (EK_PURPOSE,) else ["other-purposes"]


def _check_usage(certificate: Certificate) -> list[str]:
    """An endorsement key decrypts; one that signs certificates is another kind of key."""
    usages = extensions.key_usage(certificate)
    if usages is None:
        return ["key-usage-absent"]
    if usages & {extensions.KEY_CERT_SIGN, extensions.CRL_SIGN}:
        raise PkiError("ek-key-usage", "an endorsement key signs no certificates")
    if not usages & set(_TRANSPORT.values()):
        raise PkiError("ek-key-usage", "an endorsement key is for key encipherment or key agreement")
    # Intel marks its P-256 keys with keyEncipherment.
    return [] if usages == {_TRANSPORT.get(certificate.key_type)} else ["key-usage-unusual"]


def _check_key(certificate: Certificate) -> list[str]:
    usable = certificate.key_type == "rsa" or certificate.key_curve in _CURVES
    if certificate.key_type not in _TRANSPORT or certificate.key_bits == 0 or not usable:
        raise PkiError("ek-key-algorithm", "an endorsement key is RSA, or on P-256, P-384 or P-521")
    if certificate.key_type == "rsa" and certificate.key_bits < _MIN_RSA_BITS:
        raise PkiError("ek-key-size", f"an RSA endorsement key has at least {_MIN_RSA_BITS} bits")
    return []


def _chip(certificate: Certificate) -> tuple[str, str, str, list[str]]:
    """Return (manufacturer, model, firmware version, deviations) out of the subject's alternative name.

    The three attributes stand in one relative name or in three (Nuvoton, Infineon): only their kinds matter.
    """
    found: dict[str, str] = {}
    odd: list[str] = []
    for name in extensions.alternative_directory_names(certificate):
        for kind, value in (attribute for rdn in name.rdns for attribute in rdn):
            if found.setdefault(kind, value) != value:
                odd.append(f"two-values-of-{kind.lower()}")
    fields = [found.get(kind, "") for kind in ("tpmManufacturer", "tpmModel", "tpmVersion")]
    if not all(fields):
        odd.append("chip-not-named")
    if fields[0] and not _ID.fullmatch(fields[0]):
        odd.append("manufacturer-not-an-id")
    return _clean(_normalised(fields[0])), _clean(fields[1]), _clean(fields[2]), odd


def _clean(text: str) -> str:
    """Return at most 64 characters of `text`, invisible ones replaced: it is shown on consoles and matched by policies."""
    return "".join(character if character.isprintable() else "�" for character in text)[:64]


def _normalised(manufacturer: str) -> str:
    match = _ID.fullmatch(manufacturer)
    return f"id:{match[1].upper()}" if match else manufacturer


def manufacturer_name(manufacturer: str) -> str:
    """Return the registered name of a manufacturer's id as certificates have it ("id:49465800"), or the text itself."""
    match = _ID.fullmatch(manufacturer)
    if match is None or manufacturer == _SOFTWARE_TPM:
        return "software TPM" if match else manufacturer
    code = bytes.fromhex(match[1]).rstrip(b"\x00 ").decode("ascii", "replace")
    return MANUFACTURERS.get(code, manufacturer)
