"""Certificates in the files that people keep them in: what is read, and what is bounded."""

import base64
import gzip
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestd.inspection.certificates import NOBODY, inspect_certificate, inspect_ek, read_bundle
from attestd.inspection.refused import InspectionRefused
from attestd.inspection.wrapped import certificates_in
from attestd_pki import der
from attestd_pki.chain import TrustStore
from attestd_pki.errors import PkiError
from cert_forge import INTERMEDIATE, LEAF, NOW, ROOT, make
from inspecting import refusal_of

EK, BETWEEN, ANCHOR = make(LEAF, INTERMEDIATE), make(INTERMEDIATE, ROOT), make(ROOT)
STORE = TrustStore.of([ANCHOR], [BETWEEN])


def pem(data: bytes, label: str = "CERTIFICATE", end: str = "\n") -> bytes:
    text = base64.encodebytes(data).decode().replace("\n", end)
    return f"-----BEGIN {label}-----{end}{text}-----END {label}-----{end}".encode()


def pkcs7(*certificates: bytes) -> bytes:
    """Return a SignedData that signs nothing and carries certificates, sorted as DER wants a SET (RFC 5652, 5.1)."""
    data = der.encode(0x30, bytes.fromhex("06092a864886f70d010701"))
    signed = der.encode(
        0x30, b"\x02\x01\x01\x31\x00" + data + der.encode(0xA0, b"".join(sorted(certificates))) + b"\x31\x00"
    )
    return der.encode(0x30, bytes.fromhex("06092a864886f70d010702") + der.encode(0xA0, signed))


def endless(*certificates: bytes) -> bytes:
    """Return PKCS#7 with indefinite lengths."""
    kind, data = bytes.fromhex("06092a864886f70d010702"), der.encode(0x30, bytes.fromhex("06092a864886f70d010701"))
    end = b"\0\0"
    signed = b"\x30\x80\x02\x01\x01\x31\x00" + data + b"\xa0\x80" + b"".join(certificates) + end + b"\x31\x00" + end
    return b"\x30\x80" + kind + b"\xa0\x80" + signed + end + end


def xxd(data: bytes) -> bytes:
    rows = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        pairs = " ".join(row[i : i + 2].hex() for i in range(0, len(row), 2))
        rows.append(f"{at:08x}: {pairs:<39}  {''.join(chr(b) if 32 <= b < 127 else '.' for b in row)}")
    return "\n".join(rows).encode()


def hexdump(data: bytes) -> bytes:
    rows = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        pairs = " ".join(f"{b:02x}" for b in row[:8]) + "  " + " ".join(f"{b:02x}" for b in row[8:])
        rows.append(f"{at:08x}  {pairs:<49} |{''.join(chr(b) if 32 <= b < 127 else '.' for b in row)}|")
    return "\n".join([*rows, f"{len(data):08x}"]).encode()


def stored(data: bytes, tag: bytes = b"\x10\x02") -> bytes:
    inner = tag + data
    return b"\x10\x01\x00" + len(inner).to_bytes(2, "big") + inner


def text64(data: bytes) -> str:
    return base64.b64encode(data).decode()


WRAPPINGS: dict[str, Callable[[bytes], bytes]] = {
    "bare": bytes,
    "zeros behind it": lambda data: data + bytes(300),
    "ones behind it": lambda data: data + b"\xff" * 300,
    "what an older certificate left behind it": lambda data: data + b"\x17\x99\x02leftover",
    "TCG header": stored,
    "TCG header without the inner tag": lambda data: stored(data, b""),
    "TCG header that counts the certificate alone": lambda data: (
        b"\x10\x01\x00" + len(data).to_bytes(2, "big") + b"\x10\x02" + data + bytes(9)
    ),
    "TCG header and padding": lambda data: stored(data) + b"\xff" * 64,
    "TPM2B": lambda data: len(data).to_bytes(2, "big") + data,
    "OCTET STRING": lambda data: der.encode(4, data),
    "OCTET STRING in a TCG header": lambda data: der.encode(4, stored(data)),
    "PEM": pem,
    "PEM with CRLF": lambda data: pem(data, end="\r\n"),
    "PEM in a line of source": lambda data: b'  const EK = "' + pem(data).replace(b"\n", b"\\n") + b'";\n',
    "PEM without an end": lambda data: pem(data).split(b"-----END")[0],
    "PEM behind the words of openssl x509 -text": lambda data: (
        b"Certificate:\n  Data:\n    Version: 3 (0x2)\n" + pem(data)
    ),
    "PEM without a line feed before the next": lambda data: pem(data).rstrip() + pem(BETWEEN.der),
    "TRUSTED CERTIFICATE": lambda data: pem(data + der.encode(0x30, b"\x0c\x02EK"), "TRUSTED CERTIFICATE"),
    "X509 CERTIFICATE": lambda data: pem(data, "X509 CERTIFICATE"),
    "PEM in UTF-16": lambda data: pem(data).decode().encode("utf-16"),
    "base64 in lines": lambda data: base64.encodebytes(data),
    "base64url": lambda data: base64.urlsafe_b64encode(data).rstrip(b"="),
    "base64 of a TCG header": lambda data: base64.b64encode(stored(data)),
    "gzip": gzip.compress,
    "gzip of PEM": lambda data: gzip.compress(pem(data)),
    "hexadecimal": lambda data: data.hex().encode(),
    "hexadecimal in capitals": lambda data: data.hex().upper().encode() + b"\n",
    "hexadecimal with colons": lambda data: data.hex(":").encode(),
    "hexadecimal with 0x and commas": lambda data: ", ".join(f"0x{b:02x}" for b in data).encode(),
    "hexadecimal in lines": lambda data: b"\n".join(
        data.hex().encode()[i : i + 64] for i in range(0, 2 * len(data), 64)
    ),
    "hexadecimal of a padded index": lambda data: (data + b"\xff" * 200).hex().encode(),
    "xxd": xxd,
    "hexdump -C": hexdump,
    "od -tx1": lambda data: b"\n".join(
        f"{at:07o} {data[at : at + 16].hex(' ')}".encode() for at in range(0, len(data), 16)
    ),
    "PKCS#7": pkcs7,
    "PKCS#7 with its issuers": lambda data: pkcs7(data, BETWEEN.der, ANCHOR.der),
    "PKCS#7 with indefinite lengths": lambda data: endless(data, BETWEEN.der),
    "PKCS#7 in PEM": lambda data: pem(pkcs7(data, BETWEEN.der), "PKCS7"),
    "PKCS#7 in base64": lambda data: base64.encodebytes(pkcs7(data)),
    "CMS in PEM": lambda data: pem(pkcs7(data), "CMS"),
    "JSON of a web service": lambda data: json.dumps(
        {"pubhash": "c3RyYW5nZQ==" * 20, "certificate": base64.urlsafe_b64encode(data).decode().rstrip("=")}
    ).encode(),
    "JSON, percent-encoded": lambda data: json.dumps(
        {"certificate": text64(data).replace("+", "%2B").replace("=", "%3D")}
    ).encode(),
    "JSON with PEM": lambda data: json.dumps({"ek": {"cert": pem(data).decode()}}).encode(),
    "JSON list": lambda data: json.dumps([text64(data), text64(BETWEEN.der)]).encode(),
    "JSON with hexadecimal": lambda data: json.dumps({"nv": {"0x1c00002": data.hex()}}).encode(),
    "issuers behind it": lambda data: data + BETWEEN.der + ANCHOR.der + bytes(40),
    "issuers behind it, with padding between": lambda data: data + b"\xff" * 9 + BETWEEN.der + bytes(40),
    "issuers behind it, each with a header": lambda data: stored(data) + stored(BETWEEN.der),
    "issuers before it in PEM": lambda data: pem(ANCHOR.der) + pem(BETWEEN.der) + pem(data),
}


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS.keys())
def test_the_certificate_in_a_file_is_found_and_judged(wrap: Callable[[bytes], bytes]) -> None:
    report = inspect_ek(wrap(EK.der), STORE, at=NOW)
    assert (report.certificate.sha256, report.outcome) == (EK.sha256, "trusted")


@pytest.mark.parametrize("name", ["issuers behind it", "PKCS#7 with its issuers", "issuers before it in PEM"])
def test_issuers_that_lie_beside_it_close_the_path_and_are_never_anchors(name: str) -> None:
    data = WRAPPINGS[name](EK.der)
    assert inspect_ek(data, TrustStore.of([ANCHOR]), at=NOW).outcome == "trusted"
    assert inspect_ek(data, NOBODY, at=NOW).outcome == "untrusted"


@pytest.mark.parametrize(
    "wrap",
    [pkcs7, lambda *all_: pem(pkcs7(*all_), "PKCS7"), lambda *all_: b"# a comment\n" + b"\n".join(map(pem, all_))],
)
def test_a_bundle_of_authorities_is_read_in_the_forms_in_which_makers_publish_it(wrap: Callable[..., bytes]) -> None:
    assert inspect_ek(EK.der, read_bundle([wrap(BETWEEN.der, ANCHOR.der)]), at=NOW).outcome == "trusted"


def test_the_leaf_of_a_pkcs7_is_what_a_certificate_report_is_about() -> None:
    assert inspect_certificate(pkcs7(EK.der, BETWEEN.der, ANCHOR.der), STORE, at=NOW).certificate.sha256 == EK.sha256


NOTHING = {
    "an empty file": b"",
    "zeros": bytes(900),
    "ones": b"\xff" * 900,
    "gzip of nothing": gzip.compress(b""),
    "gzip that is cut": gzip.compress(EK.der)[:40],
    "JSON without a certificate": b'{"certificate": 7}',
    "JSON that is cut": b'{"certificate": "MII',
    "PKCS#7 that is cut": pkcs7(EK.der)[:200],
    "PKCS#7 without certificates": pkcs7(),
    "hexadecimal of something else": b"cafebabe" * 40,
    "a dump of something else": xxd(b"\x7fELF" + bytes(99)),
    "half a certificate": EK.der[: len(EK.der) // 2],
    "a key in PEM": b"-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n",
}


@pytest.mark.parametrize("data", NOTHING.values(), ids=NOTHING.keys())
def test_what_holds_no_certificate_is_refused_with_a_code(data: bytes) -> None:
    code = refusal_of(lambda: inspect_ek(data, STORE, at=NOW))
    assert code is not None
    assert code.startswith(("unwrap-", "certificate-"))


def test_gzip_is_unpacked_no_further_than_a_bundle_is_long() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    assert refusal_of(lambda: inspect_ek(bomb, STORE, at=NOW)) == "bundle-size"


def test_wrappings_without_an_end_are_refused() -> None:
    data = EK.der
    for _ in range(9):
        data = gzip.compress(data)
    assert refusal_of(lambda: inspect_ek(data, STORE, at=NOW)) == "unwrap-not-a-certificate"


def test_a_cut_certificate_among_others_is_left_out() -> None:
    report = inspect_certificate(pem(EK.der) + pem(BETWEEN.der[:-9]), STORE, at=NOW)
    assert (report.outcome, report.certificate.sha256) == ("trusted", EK.sha256)


@given(st.binary(max_size=300), st.sampled_from(sorted(WRAPPINGS)))
def test_any_bytes_in_any_wrapping_are_read_or_refused(data: bytes, name: str) -> None:
    found = read(WRAPPINGS[name](data))
    assert all(isinstance(one, bytes) for one in found)


@given(st.sampled_from(sorted(WRAPPINGS)), st.integers(0, 1 << 16), st.integers(0, 255))
def test_a_changed_byte_of_a_file_is_read_or_refused(name: str, position: int, value: int) -> None:
    data = bytearray(WRAPPINGS[name](EK.der))
    data[position % len(data)] = value
    assert all(isinstance(one, bytes) for one in read(bytes(data)))


def read(data: bytes) -> tuple[bytes, ...]:
    """Return the certificates of a file, or none where it is refused."""
    try:
        return certificates_in(data)[0]
    except (PkiError, InspectionRefused):
        return ()
