"""The tuple of a statement in the spellings of others: what tools, clouds and browsers call its parts, and how they write bytes.

Proves nothing. Returns the one spelling that `statements` reads (docs/inspect.md): field names, hexadecimal texts, structures
without their sizes, a signature as TPMT_SIGNATURE where its scheme is told. Bytes may be hexadecimal, base64, base64url, PEM, or a
list of numbers. What is not there stays away; what is there and cannot be bytes is refused.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from attestd.inspection.refused import InspectionRefused
from attestd.protocol.limits import MAX_TPM_STRUCTURE, PCR_COUNT
from attestd.tpm.algorithms import DIGEST_SIZES, HASH_IDS, HASH_NAMES
from attestd_pki.base64text import decode_base64

_ATTEST: Final = (
    "attest",
    "attestation",
    "quote",
    "quoted",
    "message",
    "certInfo",
    "certify_info",
    "tpms_attest",
    "tpm2b_attest",
)
_SIGNATURE: Final = (
    "signature_tpmt",
    "tpmt_signature",
    "signature_raw",
    "raw_signature",
    "sig",
    "rawSig",
    "raw_sig",
    "signature",
)
_KEY: Final = (
    "ak_tpmt_public",
    "ak_tpm2b_public",
    "ak_public",
    "ak_pub",
    "akpub",
    "akPub",
    "ak",
    "tpmt_public",
    "tpm2b_public",
    "ak_spki_der",
    "ak_spki",
    "ak_pem",
    "ak_spki_pem",
    "ak_der",
    "public_key",
    "pubkey",
)
_PATH: Final = ("x5c", "ak_cert", "ak_certificate", "ak_chain", "certificate", "certificates")
_NONCE: Final = ("nonce", "qualifying_data", "qualifyingData", "challenge")
_CERTIFIED: Final = ("pubArea", "pub_area", "certified_public", "object_public")
_REGISTERS: Final = ("pcrs", "pcr_values", "pcrValues", "pcr")
_BARE: Final = frozenset({"signature_raw", "raw_signature"})
_MAGIC: Final = bytes.fromhex("ff544347")
_SCHEMES: Final = {"rsassa": 0x0014, "rsapss": 0x0016, "ecdsa": 0x0018}
_SCHEME_NAMES: Final = {
    "rs": "rsassa",
    "ps": "rsapss",
    "es": "ecdsa",
    "rsassa": "rsassa",
    "rsapss": "rsapss",
    "ecdsa": "ecdsa",
}
_COSE: Final = {
    -65535: ("rsassa", "sha1"),
    -257: ("rsassa", "sha256"),
    -258: ("rsassa", "sha384"),
    -259: ("rsassa", "sha512"),
    -37: ("rsapss", "sha256"),
    -38: ("rsapss", "sha384"),
    -39: ("rsapss", "sha512"),
    -7: ("ecdsa", "sha256"),
    -35: ("ecdsa", "sha384"),
    -36: ("ecdsa", "sha512"),
}
_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----([A-Za-z0-9+/=\s]*)-----END ")
_MOST: Final = 16 * MAX_TPM_STRUCTURE
"""Octets of one field: a path of certificates in PEM stays under 20 KiB."""
_MOST_BANKS: Final = 16


def canonical(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tuple in the one spelling. *Raises* `InspectionRefused` ("hex-malformed", "tuple-malformed", "pcrs-malformed")."""
    document = _flat(document)
    found: dict[str, Any] = {"attest": _unsized(_octets(_first(document, _ATTEST), what="attest"), _MAGIC).hex()}
    signature = _signature(document)
    found |= signature
    found |= _key(document)
    if (nonce := _first(document, _NONCE)) is not None:
        found["nonce"] = _octets(nonce, what="nonce").hex()
    if (certified := _first(document, _CERTIFIED)) not in (None, ""):
        found["pubArea"] = _unsized(_octets(certified, what="pubArea"), b"").hex()
    if registers := _first(document, _REGISTERS):
        found["pcrs"] = banks(registers)
    return found


def _flat(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the tuple inside of a browser's attestation statement, or of a list of quotes by one key (go-tpm-tools)."""
    inner = document.get("attStmt")
    if isinstance(inner, dict) and "attest" not in document:
        return {**document, **inner}
    quotes = document.get("quotes")
    if not isinstance(quotes, list) or not all(isinstance(one, dict) for one in quotes) or "attest" in document:
        return document
    for one in sorted(quotes[:_MOST_BANKS], key=lambda quote: "256" not in str(quote.get("pcrs", {}))[:64]):
        registers = one.get("pcrs")
        values = registers.get("pcrs") if isinstance(registers, dict) else None
        bank = str(registers.get("hash", "sha256")) if isinstance(registers, dict) else ""
        return {**document, **one, "pcrs": {bank: values}} if values is not None else {**document, **one}
    return document


def _first(document: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((document[name] for name in names if document.get(name) is not None), None)


def _octets(value: object, *, what: str, size: int | None = None) -> bytes:
    """Return the bytes that a text or a list of numbers stands for; `size` decides where a text can be read as both."""
    if isinstance(value, list) and all(type(one) is int and 0 <= one < 256 for one in value):
        return bytes(value[:_MOST])
    if not isinstance(value, str) or len(value) > 4 * _MOST:
        raise InspectionRefused("hex-malformed", f"{what} is not hexadecimal")
    if (pem := _PEM.search(value)) is not None:
        value = pem[2]
    found = _hexadecimal(value)
    if found is None or (size is not None and len(found) != size):
        other = _base64(value)
        found = other if found is None or (other is not None and len(other) == size) else found
    if found is None:
        raise InspectionRefused("hex-malformed", f"{what} is not hexadecimal")
    return found


def _hexadecimal(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text.strip().removeprefix("0x").removeprefix("0X").replace(":", ""))
    except ValueError:
        return None


def _base64(text: str) -> bytes | None:
    try:
        return decode_base64(text)
    except ValueError:
        return None


def _unsized(data: bytes, beginning: bytes) -> bytes:
    """Return a structure without the size before it (TPM2B), if it has one and begins as it should."""
    sized = len(data) > 2 and int.from_bytes(data[:2], "big") == len(data) - 2
    return data[2:] if sized and data[2:].startswith(beginning) else data


# --- the signature --------------------------------------------------------------------------------------------------------


def _signature(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the signature as TPMT_SIGNATURE, or raw with its hash."""
    scheme, digest = _told_scheme(document)
    name, value = next(
        (
            (name, document[name])
            for name in _SIGNATURE
            if isinstance(document.get(name), str | list) and document[name]
        ),
        ("", None),
    )
    hint = document.get("signature")
    if value is None and isinstance(hint, dict):
        name, value = (
            "signature",
            next((hint[key] for key in ("sig", "value", "raw", "signature") if hint.get(key)), None),
        )
    if value is None:
        return {}
    octets = _octets(value, what=name)
    bare = _unsized(octets, b"\x00")
    if name in ("signature_tpmt", "tpmt_signature") or (name not in _BARE and _is_tpmt(bare)):
        return {"signature_tpmt": (bare if _is_tpmt(bare) else octets).hex()}
    if scheme == "rsassa":
        return {"signature_raw": octets.hex(), "signature": {"alg": scheme, "hash": digest}}
    return {"signature_tpmt": _marshalled(scheme, digest, octets).hex()}


def _is_tpmt(data: bytes) -> bool:
    """Return whether bytes begin as TPMT_SIGNATURE does: a scheme and a hash; no bare RSA signature of a real key does."""
    return (
        len(data) >= 4 and data[0] == 0 and 0x14 <= data[1] <= 0x1C and int.from_bytes(data[2:4], "big") in HASH_NAMES
    )


def _told_scheme(document: Mapping[str, Any]) -> tuple[str, str]:
    """Return (scheme, hash) as the tuple tells them; RSASSA with SHA-256 where it does not."""
    hint = document.get("signature")
    told = hint if isinstance(hint, dict) else document
    algorithm, digest = told.get("alg", told.get("scheme")), told.get("hash", told.get("hash_alg"))
    if type(algorithm) is int and algorithm in _COSE:
        return _COSE[algorithm]
    name = re.sub(r"[^a-z0-9]", "", algorithm.lower()) if isinstance(algorithm, str) else "rsassa"
    suffix = re.search(r"(256|384|512)\Z", name)
    scheme = _SCHEME_NAMES.get(
        name if suffix is None else name[: suffix.start()], name if name in _SCHEMES else "rsassa"
    )
    bank = _bank_name(digest) if digest is not None else None
    return scheme, bank or (f"sha{suffix[1]}" if suffix else "sha256" if digest is None else str(digest)[:16])


def _marshalled(scheme: str, digest: str, octets: bytes) -> bytes:
    """Return TPMT_SIGNATURE of bare RSA-PSS octets, or of an ECDSA signature in DER or as r and s of one size."""
    head = _SCHEMES[scheme].to_bytes(2, "big") + HASH_IDS.get(digest, 0).to_bytes(2, "big")
    if scheme != "ecdsa":
        return head + _sized(octets)
    half = len(octets) // 2
    try:
        first, second = (number.to_bytes(max(half, 1), "big") for number in decode_dss_signature(octets))
    except (ValueError, OverflowError):
        first, second = octets[:half], octets[half:]
    return head + _sized(first.lstrip(b"\0") or b"\0") + _sized(second.lstrip(b"\0") or b"\0")


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data if len(data) < 1 << 16 else data


# --- the key --------------------------------------------------------------------------------------------------------------


def _key(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the key by what it turns out to be, and the certificates that came with it."""
    found: dict[str, Any] = {}
    path = _first(document, _PATH)
    if path:
        found["x5c"] = [one.hex() for one in _certificates(path)]
    for name in _KEY:
        value = document.get(name)
        if value is None or value == "":
            continue
        octets = _octets(value, what=name)
        if isinstance(value, str) and "BEGIN CERTIFICATE" in value:
            found.setdefault("x5c", [octets.hex()])
        elif octets[:1] == b"\x30":
            found.setdefault("ak_spki_der", octets.hex())
        else:
            found.setdefault("ak_tpmt_public", octets.hex())
    return found


def _certificates(path: object) -> list[bytes]:
    texts = path if isinstance(path, list) and not all(type(one) is int for one in path) else [path]
    if len(texts) == 1 and isinstance(texts[0], str) and texts[0].count("-----BEGIN ") > 1:
        texts = [block[2] for block in _PEM.finditer(texts[0])]
    return [_octets(one, what="x5c") for one in texts[:16]]


# --- the registers --------------------------------------------------------------------------------------------------------


def banks(value: object) -> dict[str, dict[str, str]]:
    """Return register values by bank and index; banks of hashes that no TPM here has are left out."""
    found: dict[str, dict[str, str]] = {}
    if isinstance(value, list):
        for one in value:
            _add_listed(one, found)
        return found
    if not isinstance(value, dict):
        raise InspectionRefused("pcrs-malformed", "the PCR values are not an object of banks")
    if (
        value
        and all(_index(key) is not None for key in value)
        and not any(isinstance(one, dict | list) for one in value.values())
    ):
        for key, text in value.items():
            _add(found, None, key, text)
        return found
    for key, registers in list(value.items())[:_MOST_BANKS]:
        bank = _bank_name(key)
        if isinstance(registers, list):
            registers = {str(index): text for index, text in enumerate(registers) if text is not None}
        if not isinstance(registers, dict):
            raise InspectionRefused("pcrs-malformed", f"{str(key)[:32]!r} is not a bank with its registers")
        if bank is None:
            if not re.fullmatch(r"(sha3|shake|sm3|sha)[\w-]*", str(key).lower()):
                raise InspectionRefused("pcrs-malformed", f"{str(key)[:32]!r} is not a bank with its registers")
            continue
        found.setdefault(bank, {})
        for index, text in registers.items():
            _add(found, bank, index, text)
    return found


def _add_listed(one: object, found: dict[str, dict[str, str]]) -> None:
    if not isinstance(one, dict):
        raise InspectionRefused("pcrs-malformed", "a register of a list is not an object")
    bank = _first(one, ("bank", "alg", "algorithm", "hash", "digestAlg", "DigestAlg"))
    index = next((one[name] for name in ("index", "pcr", "Index", "pcrIndex") if name in one), None)
    _add(
        found, _bank_name(bank) if bank is not None else None, index, _first(one, ("value", "digest", "Digest", "hex"))
    )


def _add(found: dict[str, dict[str, str]], bank: str | None, key: object, value: object) -> None:
    index = _index(key)
    octets = _octets(value, what=f"PCR {str(key)[:16]}", size=DIGEST_SIZES[bank] if bank is not None else None)
    sizes = [name for name in ("sha256", "sha1", "sha384", "sha512") if DIGEST_SIZES[name] == len(octets)]
    bank = bank or (sizes[0] if sizes else None)
    if index is None or bank is None:
        raise InspectionRefused("pcrs-malformed", f"there is no PCR {str(key)[:16]!r}")
    found.setdefault(bank, {})[str(index)] = octets.hex()


def _index(key: object) -> int | None:
    match = (
        re.fullmatch(r"(?:pcr[\s_-]*)?0*(\d{1,2})", str(key).strip().lower()) if isinstance(key, str | int) else None
    )
    return int(match[1]) if match is not None and int(match[1]) < PCR_COUNT else None


def _bank_name(value: object) -> str | None:
    """Return the hash that a name or a TPM_ALG_ID means."""
    text = str(value).strip().lower().removeprefix("tpm_alg_").replace("-", "").replace("_", "")
    names = {name.replace("_", ""): name for name in DIGEST_SIZES} | {"sm3": "sm3_256"}
    if text in names:
        return names[text]
    try:
        return HASH_NAMES.get(int(text, 16 if text.startswith("0x") else 10))
    except ValueError:
        return None
