"""Certificates in whatever file a person kept them: beyond what NV indices hold (`attestd_pki.unwrap`), what tools print and save.

Proves that what it returns are ASN.1 SEQUENCEs that were in the file, in order. Says what was around them. Reads, in each other:
gzip, UTF-16, PEM of any number, PKCS#7 in DER and PEM, base64, JSON with certificates anywhere in it, hexadecimal digits, the dumps
of xxd, hexdump and od. Enrolment does not read these: a device sends what its TPM holds.
"""

import json
import re
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from attestd.inspection.refused import InspectionRefused
from attestd.protocol.limits import INSPECTED_BUNDLE
from attestd_pki import bounds, der
from attestd_pki.base64text import decode_base64
from attestd_pki.errors import PkiError
from attestd_pki.unwrap import split_bundle, unwrap_all

Found = tuple[tuple[bytes, ...], tuple[str, ...]]

_LAYERS: Final = 6
"""Wrappings inside each other: gzip, UTF-16, JSON, base64, PKCS#7, and what NV holds."""
_MOST: Final = 4096
"""Certificates of one file: the largest published bundle of authorities has 1,000."""
_STRINGS: Final = 4096
"""Texts of one JSON document that are tried."""
_PEM_OTHER: Final = re.compile(rb"-----BEGIN (?:PKCS7|CMS|PKCS #7 SIGNED DATA)-----([A-Za-z0-9+/=\s]*)(?:-----END |\Z)")
_LONG_SEQUENCE: Final = b"\x30\x82"
_SIGNED_DATA: Final = bytes.fromhex("06092a864886f70d010702")
_HEX: Final = re.compile(rb"(?:0x)?[0-9A-Fa-f\s:,x]+")
_DUMP: Final = re.compile(rb"\s*(?:0x)?([0-9A-Fa-f]{4,16})(?::|[ \t])[ \t]*(.*)")
_LINES: Final = 65_536
"""Lines of a dump, of 16 octets each: one of a bundle."""
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_=%\s-]+")
_SPACE: Final = b" \t\r\n\x00\xef\xbb\xbf"
_BEGINNINGS: Final = (b"0\x82", b"0\x81", b"0\x80", b"0\x83", b"\x04\x82", b"\x10\x01", b"\x1f\x8b")
"""How a certificate, a PKCS#7, an OCTET STRING, a TCG header and gzip begin."""


def certificates_in(data: bytes) -> Found:
    """Return (certificates, deviations) of a file. *Raises* PkiError of `unwrap_all`, `InspectionRefused` (bundle-size)."""
    around: list[str] = []
    for _ in range(_LAYERS):
        listed = _listed(data)
        if listed:
            return listed, tuple(around)
        inner = peeled(data)
        if inner is None:
            break
        data, what = inner
        around += [what] if what else []
    found, odd = _of_index(data)
    return found, (*around, *odd)


def _listed(data: bytes) -> tuple[bytes, ...]:
    """Return the certificates of a list that says of itself that it is one: PEM, PKCS#7, JSON."""
    text = data.strip(_SPACE)
    if text[:1] in (b"{", b"["):
        return tuple(_json(text))
    if b"-----BEGIN " in data:
        # Out of a program's source or a log: line feeds as they are written there.
        data = data.replace(b"\\r", b"").replace(b"\\n", b"\n")
        found = [_whole(one) for one in split_bundle(data)]
        for block in _PEM_OTHER.finditer(data):
            found += _pkcs7(_decoded(block[1]) or b"")
        return tuple(found[:_MOST])
    return _pkcs7(data) if data[:1] == b"0" and _SIGNED_DATA in data[:32] else ()


def _whole(data: bytes) -> bytes:
    """Return the first SEQUENCE: a TRUSTED CERTIFICATE has what OpenSSL thinks of it behind itself."""
    try:
        _, _, end = der.measure(data)
    except PkiError:
        return data
    return data[:end]


def peeled(data: bytes) -> tuple[bytes, str] | None:
    """Return what lies in the outermost wrapping and its name (base64 has none), or None where there is none of these."""
    if data.startswith(b"\x1f\x8b"):
        return _inflated(data), "gzip"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data.decode("utf-16", "replace")
        return text.encode("utf-8", "replace"), "utf-16"
    text_bytes = data.strip(_SPACE)
    digits = _dumped(text_bytes)
    if digits is not None:
        return digits, "hexadecimal"
    if data[:1] != b"0" and _BASE64.fullmatch(text_bytes):
        inner = _decoded(text_bytes)
        if inner is not None and inner.startswith(_BEGINNINGS):
            return inner, ""
    return None


def _inflated(data: bytes) -> bytes:
    try:
        inner = zlib.decompressobj(wbits=31).decompress(data, INSPECTED_BUNDLE + 1)
    except zlib.error:
        raise PkiError("unwrap-not-a-certificate", "not gzip that can be read") from None
    if len(inner) > INSPECTED_BUNDLE:
        raise InspectionRefused("bundle-size", f"more than {INSPECTED_BUNDLE} bytes behind gzip")
    return inner


def _dumped(text: bytes) -> bytes | None:
    """Return the bytes of a text of hexadecimal digits, bare or as xxd, hexdump and od lay them out; None for other texts."""
    octets = b""
    lines = [line for line in text.splitlines() if line.strip() not in (b"", b"*")]
    rows = [_DUMP.fullmatch(line) for line in lines[:_LINES]]
    # No certificate begins with zero, and every dump does.
    if rows and rows[0] is not None and not rows[0][1].strip(b"0"):
        octets = b"".join(_row(row[2]) for row in rows if row is not None)
    elif _HEX.fullmatch(text):
        plain = re.sub(rb"0x|[\s:,]", b"", text)
        octets = bytes.fromhex(plain.decode("ascii")) if b"x" not in plain and len(plain) % 2 == 0 else b""
    return octets if octets.startswith(_BEGINNINGS) else None


def _row(text: bytes) -> bytes:
    """Return the octets of one line of a dump; what is behind two spaces and no pair of digits is the line in characters."""
    digits = text.split(b"|")[0]
    found = b""
    for part in re.split(rb"[ \t]+", digits.strip()):
        if len(found) == 16 or len(part) % 2 or not re.fullmatch(rb"(?:[0-9A-Fa-f]{2})+", part):
            break
        found += bytes.fromhex(part.decode("ascii"))
    return found[:32]


def _decoded(text: bytes) -> bytes | None:
    plain = re.sub(rb"%([0-9A-Fa-f]{2})", lambda code: bytes((int(code[1], 16),)), text)
    try:
        return decode_base64(plain)
    except ValueError:
        return None


def _pkcs7(data: bytes) -> tuple[bytes, ...]:
    """Return the certificates of a SignedData (RFC 5652, 5.1): [0] behind version, digests and contents. Nothing is verified."""
    found: list[bytes] = []
    try:
        _, start, end = der.measure(data)
        content = der.elements(data[start:end])[1]
        signed = der.only(content.content, der.SEQUENCE)
        for part in _members(signed.content):
            if part.tag == 0xA0:
                found += [one.raw for one in _members(part.content) if one.tag == der.SEQUENCE]
    except (PkiError, IndexError):
        # Indefinite lengths (BER), as some libraries write them; the certificates inside are DER all the same.
        found = _within(data)
    if not found:
        raise PkiError("unwrap-not-a-certificate", "PKCS#7 without a certificate that can be read")
    return tuple(found)


def _within(data: bytes) -> list[bytes]:
    """Return what has the shape of a certificate: SEQUENCE { SEQUENCE, SEQUENCE, BIT STRING }, one behind the other."""
    found: list[bytes] = []
    at = data.find(_LONG_SEQUENCE)
    for _ in range(_MOST):
        if at < 0:
            break
        size = _size_of(data, at)
        if size:
            found.append(data[at : at + size])
        at = data.find(_LONG_SEQUENCE, at + (size or 1))
    return found


def _size_of(data: bytes, at: int) -> int:
    """Return the octets of the certificate that begins at a place, or 0 where none does."""
    try:
        _, start, end = der.measure(data, at)
        parts = tuple(islice(_members(data[start:end]), 4)) if end - at <= bounds.MAX_CERTIFICATE else ()
    except PkiError:
        return 0
    return end - at if tuple(part.tag for part in parts) == (der.SEQUENCE, der.SEQUENCE, der.BIT_STRING) else 0


def _members(data: bytes) -> Iterator[der.Element]:
    """Yield the elements of a container that may have more of them than any certificate has."""
    offset = count = 0
    while offset < len(data) and count < _MOST:
        tag, start, end = der.measure(data, offset)
        yield der.Element(tag, data[offset:end], data[start:end])
        offset, count = end, count + 1


def _json(text: bytes) -> Iterator[bytes]:
    """Yield the certificates in a document's texts, those under "certificate" or "ek…" before others."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise PkiError("unwrap-not-a-certificate", "not JSON that can be read") from None
    texts = islice(_texts(document, 0, named=False), _STRINGS)
    for _, value in sorted(texts, key=lambda found: not found[0]):
        yield from _in_text(value)


def _texts(value: Any, depth: int, *, named: bool) -> Iterator[tuple[bool, str]]:
    if isinstance(value, str):
        if len(value) >= 128 and value.isascii():
            yield named, value
    elif depth < 16 and isinstance(value, dict):
        for key, inner in value.items():
            wanted = key.lower() in ("certificate", "ekcert", "ek_cert", "ek_certificate", "ekcertificate")
            yield from _texts(inner, depth + 1, named=named or wanted)
    elif depth < 16 and isinstance(value, list):
        for inner in value:
            yield from _texts(inner, depth + 1, named=named)


def _in_text(value: str) -> tuple[bytes, ...]:
    text = value.encode("ascii")
    try:
        if b"-----BEGIN " in text:
            return tuple(_whole(one) for one in split_bundle(text))
        octets = _dumped(text) or (_decoded(text) if _BASE64.fullmatch(text) else None)
        if octets is None or not octets.startswith(_BEGINNINGS):
            return ()
        if octets[:1] == b"0" and _SIGNED_DATA in octets[:32]:
            return _pkcs7(octets)
        return unwrap_all(octets)
    except PkiError:
        return ()


def _of_index(data: bytes) -> Found:
    """Return what `unwrap_all` reads; what stands behind a whole certificate and is no padding is told, and not refused."""
    try:
        return unwrap_all(data), ()
    except PkiError as error:
        if error.code != "unwrap-trailing-data" or data[:1] != b"0":
            raise
    _, _, end = der.measure(data)
    return (data[:end],), (f"trailing-data: {len(data) - end} bytes",)
