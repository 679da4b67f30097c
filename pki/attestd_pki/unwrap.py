"""From what an NV index, a file or a vendor's web service holds to the bytes of certificates.

Proves, of the bytes it returns, that they are one ASN.1 SEQUENCE, whole and without anything around it. Assumes nothing.
Does not read the certificate, and says nothing about who signed it. Accepts, inside each other at most four times:

    PEM                      the first block; text around it is ignored
    Intel's JSON             {"certificate": "<base64url, perhaps percent-encoded>"}
    base64, base64url        with or without padding and line breaks
    TCG stored certificate   10 01 | 00 | length16 | 10 02 | DER     (TCG PC Client Implementation 1.2, 7.3.2)
    OCTET STRING             04 | length | DER
    NV padding               DER, then 0x00 and 0xFF in any number, or one other octet repeated
    several certificates     DER, DER, …, padding                    (Intel keeps the chain in one index), each perhaps with
                             a TCG header, and padding between them
    TPM2B                    length16 | any of these
"""

import json
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from attestd_pki import bounds, der
from attestd_pki.base64text import decode_base64
from attestd_pki.errors import PkiError

_PEM = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----([A-Za-z0-9+/=\s]*)(?:-----END |\Z)")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_=\s-]+")
_PADDING: Final = b"\x00\xff"
_STORED_FULL: Final = bytes.fromhex("100100")
_STORED: Final = bytes.fromhex("1001")
_FULL_CERTIFICATE: Final = bytes.fromhex("1002")


def unwrap(data: bytes) -> bytes:
    """Return the DER bytes of the first certificate in `data`, at most 32 KiB. *Raises* as `unwrap_all`."""
    return unwrap_all(data)[0]


def unwrap_all(data: bytes) -> tuple[bytes, ...]:
    """Return the DER bytes of all certificates in `data`, at least one. Those after the first are hints, never trusted.

    *Raises* PkiError: `unwrap-too-large`, `unwrap-empty` (nothing, or nothing but padding), `unwrap-truncated`,
    `unwrap-trailing-data`, `unwrap-partial` (a TCG partial certificate), `unwrap-not-a-certificate`, `unwrap-too-deep`.
    """
    if len(data) > bounds.MAX_WRAPPED:
        raise PkiError("unwrap-too-large", f"a wrapped certificate has at most {bounds.MAX_WRAPPED} bytes")
    for _ in range(bounds.MAX_LAYERS + 1):
        if not data.strip(_PADDING):
            raise PkiError("unwrap-empty", "there is no certificate")
        if data[0] == der.SEQUENCE or data.startswith(_STORED):
            return _split(data)
        data = _peel(data)
    raise PkiError("unwrap-too-deep", f"more than {bounds.MAX_LAYERS} wrappings")


def _peel(data: bytes) -> bytes:
    """Return `data` without its outermost wrapping."""
    if int.from_bytes(data[:2], "big") == len(data) - 2 and data[2:3] in (b"\x30", b"\x10", b"\x04"):
        return data[2:]
    if data[0] == der.OCTET_STRING:
        _, start, end = _measure(data)
        return data[start:end]
    text = data.strip(b" \t\r\n\x00\xff\xef\xbb\xbf")
    if b"-----BEGIN " in text:
        return _pem(text)
    if text.startswith(b"{"):
        return _json(text)
    if _BASE64.fullmatch(text):
        return _base64(text)
    raise PkiError("unwrap-not-a-certificate", "neither DER nor a known wrapping of it")


def _measure(data: bytes) -> tuple[int, int, int]:
    try:
        return der.measure(data)
    except PkiError as error:
        code = "unwrap-truncated" if error.code == "der-truncated" else "unwrap-not-a-certificate"
        raise PkiError(code, error.message) from error


def _stored(data: bytes) -> tuple[bytes, bytes]:
    """Return (certificate, what follows) of a TCG_PCCLIENT_STORED_CERT: five bytes, a tag of two and the certificate."""
    if not data.startswith(_STORED_FULL):
        raise PkiError("unwrap-partial", "a TCG stored certificate that is not a full certificate")
    end = 5 + int.from_bytes(data[3:5], "big")
    if len(data) < end or end < 7:
        raise PkiError("unwrap-truncated", "the TCG header says more than is there")
    if data[5:7] == _FULL_CERTIFICATE:
        if data[7:8] == b"\x30" and 7 + _measure(data[7 : end + 2])[2] > end:
            end += 2  # some firmware counts the certificate alone, without the inner tag
        return data[7:end], data[end:]
    if data[5] == der.SEQUENCE:  # some firmware leaves the inner tag out
        return data[5:end], data[end:]
    raise PkiError("unwrap-not-a-certificate", "no certificate after the TCG header")


def _pem(text: bytes) -> bytes:
    block = _PEM.search(text)
    if block is None:
        raise PkiError("unwrap-not-a-certificate", "PEM, but no certificate in it")
    return _base64(block[1])


def _json(text: bytes) -> bytes:
    """Return the certificate in Intel's answer (a flat object), still in base64."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PkiError("unwrap-not-a-certificate", "not JSON that can be read") from error
    value = body.get("certificate") if isinstance(body, dict) else None
    if not isinstance(value, str) or not value.isascii():
        raise PkiError("unwrap-not-a-certificate", "JSON, but no certificate in it")
    return _base64(unquote_to_bytes(value))


def _base64(text: bytes) -> bytes:
    try:
        return decode_base64(text)
    except ValueError as error:
        raise PkiError("unwrap-not-a-certificate", "not base64 that can be read") from error


def _split(data: bytes) -> tuple[bytes, ...]:
    """Return the SEQUENCEs at the beginning of `data`, bare or stored with a header; only padding may stand behind them."""
    found: list[bytes] = []
    while not found or not _is_padding(data):
        stripped = data.lstrip(_PADDING) if found else data
        if stripped[0] != der.SEQUENCE and not stripped.startswith(_STORED):
            raise PkiError("unwrap-trailing-data", f"{len(data)} bytes after the certificate are not padding")
        if len(found) == bounds.MAX_NV_CERTIFICATES:
            raise PkiError("unwrap-trailing-data", f"more than {bounds.MAX_NV_CERTIFICATES} certificates in one place")
        one, data = _first(stripped)
        found.append(one)
    return tuple(found)


def _first(data: bytes) -> tuple[bytes, bytes]:
    """Return the first SEQUENCE of `data` and what stands behind it or its header."""
    inner, rest = _stored(data) if data.startswith(_STORED) else (data, b"")
    if inner[:1] != bytes((der.SEQUENCE,)):
        raise PkiError("unwrap-not-a-certificate", "no certificate after the TCG header")
    _, _, end = _measure(inner)
    return inner[:end], rest or inner[end:]


def _is_padding(rest: bytes) -> bool:
    return not rest.strip(_PADDING) or len(set(rest)) == 1


def split_bundle(text: bytes) -> tuple[bytes, ...]:
    """Return the DER bytes of every certificate in a PEM bundle of the operator's, in order.

    *Assumes* a trusted file of the operator's, so its size is theirs to bound. *Raises* PkiError
    `unwrap-not-a-certificate` for one that is not base64.
    """
    return tuple(_base64(block[1]) for block in _PEM.finditer(text))
