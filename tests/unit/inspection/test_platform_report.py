"""Platform certificates of every version and in every file, forged by a maker that does not exist."""

import base64
import contextlib
import datetime
import gzip
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mldsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from attestd.inspection.platform import PlatformReport, inspect_platform
from attestd.inspection.refused import InspectionRefused
from attestd_pki import der
from attestd_pki.certificate import Certificate, parse_certificate
from attestd_pki.chain import TrustStore
from cert_forge import CA, NOW, Plan, ec_key, make, name

MAKER = Plan("Example Platforms CA", ec_key(71), CA, identifiers=True)
SHA256_ECDSA = bytes.fromhex("300a06082a8648ce3d040302")
ML_DSA_65 = bytes.fromhex("300b0609608648016503040312")


def seq(*parts: bytes) -> bytes:
    return der.encode(0x30, b"".join(parts))


def text(value: str, tag: int = 0x0C) -> bytes:
    return der.encode(tag, value.encode())


def oid(dotted: str) -> bytes:
    return der.encode(6, _arcs(dotted))


def _arcs(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    found = b""
    for arc in (40 * first + second, *rest):
        octets = [arc & 0x7F]
        while arc := arc >> 7:
            octets.append(0x80 | arc & 0x7F)
        found += bytes(reversed(octets))
    return found


def attribute(dotted: str, *values: bytes) -> bytes:
    return seq(oid(dotted), der.encode(0x31, b"".join(values)))


def component(
    manufacturer: str, model: str, *more: bytes, kind: str | None = "00060001", registry: str = "2.23.133.18.3.1"
) -> bytes:
    head = [seq(oid(registry), der.encode(4, bytes.fromhex(kind)))] if kind else []
    return seq(*head, text(manufacturer), text(model), *more)


def trait(category: int, value: bytes, registry: str = "2.23.133.19.3.1") -> bytes:
    return seq(oid("2.23.133.19.1.18"), oid(f"2.23.133.19.2.{category}"), oid(registry), der.encode(4, value))


ADDRESS = seq(oid("2.23.133.17.1"), text("001122AABBCC"))
RICH = component(
    "Example Memory",
    "DDR6",
    text("SN-1", 0x80),
    text("R2", 0x81),
    der.encode(0x82, _arcs("1.3.6.1.4.1.343")),
    b"\x83\x01\xff",
    der.encode(0xA4, ADDRESS),
    der.encode(0xA6, text("http://a.example/x", 0x16)),
    b"\x87\x01\x02",
)
PROPERTIES = seq(text("vPro"), text("true")) + seq(text("Colour"), text("grey"), b"\x80\x01\x00")
V1 = seq(der.encode(0xA0, component("Example", "Board", text("7", 0x80), kind=None)), der.encode(0xA1, PROPERTIES))
V2 = seq(
    der.encode(0xA0, RICH + component("Example", "Board")),
    der.encode(0xA1, text("http://c.example", 0x16)),
    der.encode(0xA2, PROPERTIES),
    der.encode(0xA3, text("http://p.example", 0x16)),
)
TRAITS = seq(
    trait(7, b"\x04\x04\x00\x06\x00\x01", "2.23.133.18.3.1"),
    trait(8, text("Example Memory")),
    trait(9, text("DDR6")),
    trait(10, text("SN-1")),
    trait(11, b"\x0a\x01\x02"),
    trait(13, text("R2")),
    trait(14, b"\x01\x01\xff"),
    trait(29, ADDRESS),
    trait(31, oid("1.3.6.1.4.1.343")),
)
V3 = seq(der.encode(0xA0, TRAITS + seq(trait(26, RICH))), der.encode(0xA1, PROPERTIES))
CONFIGURATIONS = {"1.0": ("1", V1), "1.1": ("2", V2), "2.0": ("3", V3)}
NAMED = x509.Name(
    [
        x509.NameAttribute(x509.ObjectIdentifier(f"2.23.133.5.1.{arc}"), value)
        for arc, value in (("1", "Example Inc."), ("4", "Model 9"), ("5", "1.0"), ("6", "S-77"))
    ]
)
ALTERNATIVE = der.encode(0xA4, NAMED.public_bytes())
PLATFORM_TRAITS = der.encode(
    0xA0,
    oid("2.23.133.5.1.8")
    + der.encode(
        0xA0, seq(*(trait(number, text(value)) for number, value in ((1, "Example Inc."), (2, "Model 9"), (4, "S-77"))))
    ),
)


def issued(
    *attributes: bytes,
    by: Plan = MAKER,
    alternative: bytes = ALTERNATIVE,
    identifier: bytes | None = None,
    times: bytes = b"",
) -> bytes:
    """Return an attribute certificate for a platform (RFC 5755, 4.1)."""
    holder = seq(der.encode(0xA0, seq(der.encode(0xA4, name("An EK Authority").public_bytes())) + b"\x02\x02\x12\x34"))
    issuer = der.encode(0xA0, seq(der.encode(0xA4, name(by.subject).public_bytes())))
    when = times or seq(b"\x18\x0f20200101000000Z", b"\x18\x0f20400101000000Z")
    key_id = identifier or x509.SubjectKeyIdentifier.from_public_key(by.key.public_key()).digest
    extensions = seq(
        seq(oid("2.5.29.17"), der.encode(4, seq(alternative))),
        seq(oid("2.5.29.35"), der.encode(4, seq(der.encode(0x80, key_id)))),
    )
    quantum = isinstance(by.key, mldsa.MLDSA65PrivateKey)
    algorithm = ML_DSA_65 if quantum else SHA256_ECDSA
    info = seq(b"\x02\x01\x01", holder, issuer, algorithm, b"\x02\x01\x2a", when, seq(*attributes), extensions)
    signature = by.key.sign(info) if quantum else by.key.sign(info, ec.ECDSA(hashes.SHA256()))
    return seq(info, algorithm, der.encode(3, b"\0" + signature))


def configured(version: str = "1.1") -> bytes:
    number, value = CONFIGURATIONS[version]
    return issued(
        attribute("2.23.133.2.23", seq(*(bytes((2, 1, int(part))) for part in version.split(".")), b"\x02\x01\x13")),
        attribute("2.23.133.2.25", seq(oid("2.23.133.8.5"))),
        attribute("2.23.133.5.1.3", seq(text("http://x.example", 0x16))),
        attribute(f"2.23.133.5.1.7.{number}", value),
    )


FOUND = configured()
"""One for all tests: ECDSA draws at random, so the same plan is another certificate each time."""


def report(data: bytes, *anchors: Certificate) -> PlatformReport:
    return inspect_platform(data, TrustStore.of(anchors) if anchors else None, at=NOW)


@pytest.mark.parametrize("version", ["1.1", "2.0"])
def test_a_component_has_the_same_fields_in_every_version(version: str) -> None:
    document = report(configured(version)).document()
    assert document["components"][0] == {
        "component_class": "00060001",
        "registry": "tcg",
        "manufacturer": "Example Memory",
        "model": "DDR6",
        "serial": "SN-1",
        "revision": "R2",
        "status": "removed",
        "manufacturer_id": "1.3.6.1.4.1.343",
        "field_replaceable": True,
        "addresses": ("ethernet 001122AABBCC",),
    }
    assert len(document["components"]) == 2


def test_a_whole_component_in_one_trait_is_that_component() -> None:
    first, second = report(configured("2.0")).components
    assert first == second


def test_a_component_of_version_1_0_has_no_class() -> None:
    (part,) = report(configured("1.0")).components
    assert (part.component_class, part.manufacturer, part.model, part.serial) == ("", "Example", "Board", "7")


@pytest.mark.parametrize("version", CONFIGURATIONS)
def test_properties_addresses_and_what_it_is_are_told(version: str) -> None:
    document = report(configured(version)).document()
    assert document["properties"] == [{"name": "vPro", "value": "true"}, {"name": "Colour", "value": "grey"}]
    assert document["credential"] == {"profile": f"{version}.19", "type": "delta"}
    assert set(document["uris"]) >= {"http://x.example"}
    assert (document["manufacturer"], document["model"]) == ("Example Inc.", "Model 9")


def test_a_platform_that_is_named_by_traits_is_named() -> None:
    platform = report(issued(alternative=PLATFORM_TRAITS)).document()["platform"]
    assert platform == {"manufacturer": "Example Inc.", "model": "Model 9", "serial": "S-77"}


def test_a_server_of_a_thousand_components_is_read() -> None:
    many = b"".join(component("Example Memory", f"DIMM {number}") for number in range(1000))
    data = issued(attribute("2.23.133.5.1.7.2", seq(der.encode(0xA0, many))))
    assert (len(data) > 40_000, len(report(data).components), report(data, make(MAKER)).outcome) == (
        True,
        1000,
        "trusted",
    )


def pem(data: bytes, label: str) -> bytes:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(data).decode()}-----END {label}-----\n".encode()


FILES: dict[str, Callable[[bytes], bytes]] = {
    "DER": bytes,
    "padding": lambda data: data + b"\xff" * 99,
    "ATTRIBUTE CERTIFICATE": lambda data: pem(data, "ATTRIBUTE CERTIFICATE"),
    "X509 ATTRIBUTE CERTIFICATE": lambda data: pem(data, "X509 ATTRIBUTE CERTIFICATE"),
    "CERTIFICATE": lambda data: b"# a platform\r\n" + pem(data, "CERTIFICATE").replace(b"\n", b"\r\n"),
    "PLATFORM CERTIFICATE": lambda data: pem(data, "PLATFORM CERTIFICATE"),
    "base64": base64.encodebytes,
    "gzip": gzip.compress,
    "hexadecimal": lambda data: data.hex().encode(),
    "OCTET STRING": lambda data: der.encode(4, data),
    "TCG header": lambda data: b"\x10\x01\x00" + (len(data) + 2).to_bytes(2, "big") + b"\x10\x02" + data,
    "two": lambda data: data + configured("1.0"),
    "two in PEM": lambda data: pem(data, "ATTRIBUTE CERTIFICATE") + pem(configured("1.0"), "ATTRIBUTE CERTIFICATE"),
}


@pytest.mark.parametrize("write", FILES.values(), ids=FILES.keys())
def test_a_platform_certificate_is_found_in_its_file(write: Callable[[bytes], bytes]) -> None:
    found = report(write(FOUND), make(MAKER))
    assert (found.certificate.der, found.outcome) == (FOUND, "trusted")


TIMES = {
    "UTCTime": seq(b"\x17\x0d200101000000Z", b"\x17\x0d400101000000Z"),
    "GeneralizedTime with an offset": seq(b"\x18\x1320200101000000+0100", b"\x18\x1320400101000000+0100"),
}


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES.keys())
def test_times_as_makers_write_them_are_read(times: bytes) -> None:
    assert report(issued(times=times)).certificate.not_before in (1_577_836_800, 1_577_833_200)


def test_an_authority_by_another_spelling_of_its_name_is_found_by_its_key() -> None:
    renamed = replace(MAKER, subject="EXAMPLE PLATFORMS CA INC.")
    assert report(issued(), make(renamed)).outcome == "trusted"


def test_k06_a_platform_certificate_with_a_changed_component_is_refused() -> None:
    data = FOUND.replace(b"DDR6", b"DDR7")
    found = report(data, make(MAKER))
    assert (found.outcome, found.reasons[0][0]) == ("refused", "signature-invalid")


def test_k06_an_authority_of_the_same_name_and_another_key_is_not_the_one() -> None:
    other = make(replace(MAKER, key=ec_key(72)))
    found = report(FOUND, other)
    assert (found.outcome, found.reasons[0][0]) == ("untrusted", "chain-issuer-missing")
    assert found.document()["missing"]["key_id"] in found.reasons[0][1]


def test_k06_an_authority_that_claims_the_key_identifier_of_another_is_refused() -> None:
    wanted = x509.SubjectKeyIdentifier.from_public_key(ec_key(72).public_key()).digest
    other = make(replace(MAKER, key=ec_key(72)))
    assert report(issued(identifier=wanted), other).outcome == "refused"


def test_an_authority_with_a_key_of_ml_dsa_is_verified() -> None:
    key = mldsa.MLDSA65PrivateKey.from_seed_bytes(b"\x05" * 32)
    plan = Plan("A Quantum CA", key, CA)
    builder = (
        x509.CertificateBuilder().subject_name(name(plan.subject)).issuer_name(name(plan.subject)).serial_number(5)
    )
    template = make(Plan("A Quantum CA", ec_key(4)))
    builder = builder.public_key(key.public_key()).not_valid_before(_instant(template.not_before))
    builder = builder.not_valid_after(_instant(template.not_after))
    for extension, critical in CA:
        builder = builder.add_extension(extension, critical=critical)
    anchor = parse_certificate(builder.sign(key, None).public_bytes(Encoding.DER))

    data = issued(attribute("2.23.133.5.1.7.2", V2), by=plan)
    assert report(data, anchor).outcome == "trusted"
    assert report(data.replace(b"DDR6", b"DDR7"), anchor).outcome == "refused"


def _instant(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


@given(st.integers(0, len(FOUND) - 1), st.integers(0, 255))
def test_k06_a_changed_byte_is_never_trusted_and_breaks_nothing(position: int, value: int) -> None:
    data = bytearray(FOUND)
    same = data[position] == value
    data[position] = value
    with contextlib.suppress(InspectionRefused):
        found = report(bytes(data), make(MAKER))
        unsigned = position >= FOUND.index(SHA256_ECDSA, len(FOUND) // 2)
        assert same or unsigned or found.outcome != "trusted" or position < 4


def test_wrappings_without_an_end_are_refused() -> None:
    data = FOUND
    for _ in range(9):
        data = gzip.compress(data)
    with pytest.raises(InspectionRefused) as refusal:
        report(data)
    assert refusal.value.code == "platform-malformed"


@given(st.binary(max_size=400))
def test_any_bytes_are_a_report_or_refused(data: bytes) -> None:
    for form in (
        data,
        seq(data),
        b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(data),
        data.hex().encode(),
        b"\x10\x01\x00" + data,
    ):
        with contextlib.suppress(InspectionRefused):
            assert report(form, make(MAKER)).document()["outcome"] in {"trusted", "untrusted", "refused"}
