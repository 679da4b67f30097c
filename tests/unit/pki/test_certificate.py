"""Reading foreign certificates: what deviates and has one meaning is read and recorded, what has none is refused."""

from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from attestd_pki import bounds, der, extensions, signatures
from attestd_pki.certificate import Certificate, parse_certificate
from attestd_pki.errors import PkiError
from attestd_pki.profiles import instant
from cert_forge import EK, INTERMEDIATE, LEAF, NOW, ROOT, ec_key, make, rsa_key

CERTIFICATE = make(LEAF, INTERMEDIATE)


def parts_of(certificate: Certificate) -> list[bytes]:
    """Return the raw fields of the signed part, version first."""
    return [element.raw for element in der.elements(der.only(certificate.tbs, der.SEQUENCE).content)]


def rebuilt(fields: list[bytes], certificate: Certificate = CERTIFICATE) -> bytes:
    """Return a certificate with these fields and a signature that no longer fits."""
    _, algorithm, signature = (element.raw for element in der.elements(der.only(certificate.der, 0x30).content))
    return der.encode(0x30, der.encode(0x30, b"".join(fields)) + algorithm + signature)


def with_field(index: int, raw: bytes) -> bytes:
    fields = parts_of(CERTIFICATE)
    fields[index] = raw
    return rebuilt(fields)


def with_extensions(*raw: bytes) -> bytes:
    return with_field(7, der.encode(0xA3, der.encode(0x30, b"".join(raw))))


def refusal(data: bytes) -> str:
    with pytest.raises(PkiError) as caught:
        parse_certificate(data)
    return caught.value.code


def test_a_certificate_is_read_as_another_parser_reads_it() -> None:
    other = x509.load_der_x509_certificate(CERTIFICATE.der)
    assert CERTIFICATE.serial == other.serial_number
    assert CERTIFICATE.issuer.raw == other.issuer.public_bytes()
    assert CERTIFICATE.not_before == int(other.not_valid_before_utc.timestamp())
    assert CERTIFICATE.not_after == int(other.not_valid_after_utc.timestamp())
    assert CERTIFICATE.tbs == other.tbs_certificate_bytes
    assert CERTIFICATE.signature == other.signature
    assert CERTIFICATE.signature_oid == other.signature_algorithm_oid.dotted_string
    assert (CERTIFICATE.version, CERTIFICATE.key_type, CERTIFICATE.key_bits) == (3, "ec", 256)
    assert CERTIFICATE.deviations == ()


def test_every_extension_is_read_as_another_parser_reads_it() -> None:
    other = x509.load_der_x509_certificate(CERTIFICATE.der).extensions
    assert [(found.oid, found.critical, found.value) for found in CERTIFICATE.extensions] == [
        (extension.oid.dotted_string, extension.critical, extension.value.public_bytes()) for extension in other
    ]
    assert extensions.extended_key_usage(CERTIFICATE) == ("2.23.133.8.1",)
    assert extensions.key_usage(CERTIFICATE) == frozenset({"keyAgreement"})
    assert extensions.basic_constraints(CERTIFICATE) == (False, None)


# --- deviations -----------------------------------------------------------------------------------------------------

CN_A = bytes.fromhex("3008060355040313014 1".replace(" ", ""))
CN_B = bytes.fromhex("300806035504031301 42".replace(" ", ""))
UTC = b"\x17\x0d260101000000Z"
OID_CONSTRAINTS = bytes.fromhex("0603551d13")

DEVIATIONS = {
    "name-set-unsorted": with_field(3, der.encode(0x30, der.encode(0x31, CN_B + CN_A))),
    "serial-not-minimal": with_field(1, b"\x02\x02\x00\x05"),
    "serial-not-positive": with_field(1, b"\x02\x01\x85"),
    "serial-longer-than-20-octets": with_field(1, b"\x02\x15" + b"\x01" * 21),
    "generalized-time-before-2050": with_field(4, der.encode(0x30, UTC + b"\x18\x0f20270101000000Z")),
    "extension-critical-false": with_extensions(der.encode(0x30, OID_CONSTRAINTS + b"\x01\x01\x00\x04\x02\x30\x00")),
    "boolean-not-der": with_extensions(der.encode(0x30, OID_CONSTRAINTS + b"\x01\x01\x01\x04\x02\x30\x00")),
    "ecdsa-parameters-null": with_field(2, bytes.fromhex("300c06082a8648ce3d0403020500")),
    "length-not-minimal": b"\x30\x83\x00" + CERTIFICATE.der[2:4] + CERTIFICATE.der[4:],
}


@pytest.mark.parametrize(("deviation", "data"), DEVIATIONS.items(), ids=DEVIATIONS.keys())
def test_a_deviation_with_one_meaning_is_read_and_recorded(deviation: str, data: bytes) -> None:
    assert parse_certificate(data).deviations == (deviation,)


def test_two_orders_of_one_name_find_each_other() -> None:
    one, two = (
        parse_certificate(with_field(3, der.encode(0x30, der.encode(0x31, first + second)))).issuer
        for first, second in ((CN_A, CN_B), (CN_B, CN_A))
    )
    assert one.raw != two.raw
    assert one.key == two.key


def test_names_that_differ_in_case_and_spaces_find_each_other() -> None:
    shouted = make(replace(INTERMEDIATE, subject="EXAMPLE  TPM Intermediate ca"), ROOT).subject
    assert shouted.key == CERTIFICATE.issuer.key


SPELLINGS = {
    "UTF8String": (0x0C, "Zürich  Chips AG".encode()),
    "T61String": (0x14, "ZÜRICH chips ag".encode("latin-1")),
    "BMPString": (0x1E, "Zürich Chips AG".encode("utf-16-be")),
    "UniversalString": (0x1C, "Zürich Chips AG".encode("utf-32-be")),
    "UTF8String, composed otherwise": (0x0C, "Zu\u0308rich Chips AG".encode()),
    "PrintableString that holds UTF-8": (0x13, "Zürich Chips AG".encode()),
    "PrintableString that holds Latin-1": (0x13, "Zürich Chips AG".encode("latin-1")),
    "with spaces around": (0x0C, " zürich chips ag ".encode()),
}


@pytest.mark.parametrize(("tag", "octets"), SPELLINGS.values(), ids=SPELLINGS.keys())
def test_one_name_in_every_string_type_finds_itself(tag: int, octets: bytes) -> None:
    def named(tag: int, octets: bytes) -> Any:
        attribute = der.encode(0x30, b"\x06\x03\x55\x04\x0a" + der.encode(tag, octets))
        return parse_certificate(with_field(3, der.encode(0x30, der.encode(0x31, attribute)))).issuer.key

    assert named(tag, octets) == named(*SPELLINGS["UTF8String"])
    assert named(tag, octets) != named(0x0C, b"Zurich Chips AG")


def test_e11_a_name_cannot_write_to_a_console() -> None:
    hostile = make(replace(ROOT, subject="a\x1b[31m\u202e\nb, O=Example")).subject.text
    assert hostile == "CN=a\\u001b[31m\\u202e\\u000ab\\, O=Example"


TIMES = {
    "UTCTime without seconds": (b"\x17\x0b2601010000Z", "time-not-plain"),
    "UTCTime with an offset": (b"\x17\x11260101010000+0100", "time-with-offset"),
    "UTCTime behind UTC": (b"\x17\x11251231190000-0500", "time-with-offset"),
    "GeneralizedTime before 2050": (b"\x18\x0f20260101000000Z", "generalized-time-before-2050"),
    "GeneralizedTime with a fraction": (b"\x18\x1320260101000000.000Z", "time-not-plain"),
    "GeneralizedTime with an offset": (b"\x18\x1320260101010000+0100", "time-with-offset"),
}


@pytest.mark.parametrize(("written", "deviation"), TIMES.values(), ids=TIMES.keys())
def test_a_time_that_der_would_write_otherwise_is_the_same_instant_and_told(written: bytes, deviation: str) -> None:
    read = parse_certificate(with_field(4, der.encode(0x30, UTC + written)))
    assert (read.not_after, deviation in read.deviations) == (1_767_225_600, True)


# --- refusals -------------------------------------------------------------------------------------------------------

UNKNOWN = der.encode(0x30, b"\x06\x03\x2a\x03\x04" + b"\x04\x00")
REFUSED = {
    "nothing": b"",
    "a byte after it": CERTIFICATE.der + b"\x00",
    "a byte less": CERTIFICATE.der[:-1],
    "two parts": der.encode(0x30, CERTIFICATE.tbs + b"\x30\x00"),
    "an outer algorithm of its own": CERTIFICATE.der.replace(b"\x04\x03\x02\x03", b"\x04\x03\x03\x03"),
    "version 4": with_field(0, b"\xa0\x03\x02\x01\x03"),
    "extensions in version 1": rebuilt(parts_of(CERTIFICATE)[1:]),
    "an extension twice": with_extensions(UNKNOWN, UNKNOWN),
    "an extension without a value": with_extensions(der.encode(0x30, b"\x06\x03\x2a\x03\x04")),
    "a critical flag of two octets": with_extensions(der.encode(0x30, b"\x06\x01\x2a\x01\x02\xff\xff\x04\x00")),
    "an object identifier that does not end": with_extensions(der.encode(0x30, b"\x06\x02\x2a\x83\x04\x00")),
    "an object identifier of 65 octets": with_extensions(
        der.encode(0x30, der.encode(0x06, b"\x01" * 65) + b"\x04\x00")
    ),
    "300 extensions": with_extensions(*(der.encode(0x30, b"\x06\x01\x2a\x04\x00") for _ in range(300))),
    "an unknown field at the end": rebuilt([*parts_of(CERTIFICATE), b"\xa4\x00"]),
    "extensions twice": rebuilt([*parts_of(CERTIFICATE), parts_of(CERTIFICATE)[-1]]),
    "no public key": rebuilt(parts_of(CERTIFICATE)[:6]),
    "an empty relative name": with_field(3, der.encode(0x30, b"\x31\x00")),
    "a name that is a SET": with_field(3, b"\x31\x00"),
    "the 30th of February": with_field(4, der.encode(0x30, UTC + b"\x17\x0d260230000000Z")),
    "a time without a zone": with_field(4, der.encode(0x30, UTC + b"\x17\x0c260101000000")),
    "a time a day ahead of UTC": with_field(4, der.encode(0x30, UTC + b"\x17\x11260101000000+2400")),
    "a time in another script": with_field(4, der.encode(0x30, UTC + der.encode(0x17, "26010100000０Z".encode()))),
    "an empty serial": with_field(1, b"\x02\x00"),
    "a signature with unused bits": CERTIFICATE.der.replace(
        der.encode(0x03, b"\x00" + CERTIFICATE.signature), der.encode(0x03, b"\x01" + CERTIFICATE.signature)
    ),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_e06_what_has_no_meaning_is_refused(data: bytes) -> None:
    assert data != CERTIFICATE.der
    assert refusal(data) == "certificate-malformed"


def test_e06_an_oversized_certificate_is_refused_before_it_is_read() -> None:
    assert refusal(bytes(bounds.MAX_CERTIFICATE + 1)) == "certificate-too-large"


@given(st.integers(min_value=0, max_value=len(CERTIFICATE.der) - 1), st.integers(min_value=0, max_value=255))
def test_a_changed_byte_is_refused_or_read_as_another_certificate(position: int, value: int) -> None:
    data = bytearray(CERTIFICATE.der)
    data[position] = value
    assert outcome(bytes(data)) in {"certificate-malformed", bytes(data).hex()}


def outcome(data: bytes) -> str:
    """Return the refusal's code, or the bytes that were read as a certificate."""
    try:
        return parse_certificate(data).der.hex()
    except PkiError as error:
        return error.code


@pytest.mark.parametrize(
    ("read", "oid", "value"),
    [
        (extensions.basic_constraints, extensions.BASIC_CONSTRAINTS, b"\x30\x02\x01\x00"),
        (extensions.basic_constraints, extensions.BASIC_CONSTRAINTS, b"\x30\x03\x02\x01\xff"),
        (extensions.basic_constraints, extensions.BASIC_CONSTRAINTS, b"\x31\x00"),
        (extensions.key_usage, extensions.KEY_USAGE, b"\x03\x00"),
        (extensions.key_usage, extensions.KEY_USAGE, b"\x04\x02\x05\xa0"),
        (extensions.extended_key_usage, extensions.EXTENDED_KEY_USAGE, b"\x30\x02\x06\x00"),
        (extensions.authority_key_identifier, extensions.AUTHORITY_KEY_IDENTIFIER, b""),
        (extensions.subject_key_identifier, extensions.SUBJECT_KEY_IDENTIFIER, b"\x30\x00"),
        (extensions.alternative_directory_names, extensions.SUBJECT_ALTERNATIVE_NAME, b"\x30\x02\xa4\x00"),
    ],
)
def test_an_extension_that_cannot_be_read_does_not_pass_for_absent(read: Any, oid: str, value: bytes) -> None:
    plan = replace(LEAF, extensions=((x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), True),))
    with pytest.raises(PkiError) as caught:
        read(make(plan, INTERMEDIATE))
    assert caught.value.code == "extension-malformed"


# --- keys and signatures --------------------------------------------------------------------------------------------


def spki_of(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


OAEP = bytes.fromhex("2a864886f70d010107")
RSA = bytes.fromhex("2a864886f70d010101")


def test_a_key_named_rsaes_oaep_is_the_rsa_key_that_it_is() -> None:
    plain = make(replace(LEAF, key=rsa_key(2048)), INTERMEDIATE)
    named = parse_certificate(plain.der.replace(RSA, OAEP))
    assert named.deviations == ("key-named-rsaes-oaep",)
    assert named.spki != plain.spki
    assert signatures.canonical_spki(named) == spki_of(rsa_key(2048))


def test_a_compressed_point_is_the_key_that_it_is() -> None:
    key = ec_key(33)
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    compressed = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point
    assert signatures.canonical_spki(parse_certificate(with_field(6, compressed))) == spki_of(key)


def test_explicit_curve_parameters_are_refused() -> None:
    explicit = der.encode(
        0x30, der.encode(0x30, bytes.fromhex("06072a8648ce3d0201") + b"\x30\x00") + b"\x03\x02\x00\x04"
    )
    with pytest.raises(PkiError) as caught:
        signatures.public_key(parse_certificate(with_field(6, explicit)))
    assert caught.value.code == "key-unsupported"


@pytest.mark.parametrize(("bits", "exponent"), [(8193, 65537), (16_000, 65537), (2048, 2**32 + 1)])
def test_t04_an_rsa_key_that_is_expensive_to_use_is_refused(bits: int, exponent: int) -> None:
    def integer(value: int) -> bytes:
        return der.encode(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))

    numbers = der.encode(0x30, integer(2 ** (bits - 1) + 1) + integer(exponent))
    key = der.encode(0x30, der.encode(0x30, der.encode(0x06, RSA) + b"\x05\x00") + der.encode(0x03, b"\x00" + numbers))
    with pytest.raises(PkiError) as caught:
        signatures.public_key(parse_certificate(with_field(6, key)))
    assert caught.value.code == "key-unsupported"


SIGNERS: dict[str, Any] = {
    "P-256": ec_key(22),
    "P-384": ec_key(22, ec.SECP384R1()),
    "P-521": ec_key(22, ec.SECP521R1()),
    "RSA": rsa_key(2048),
}


@pytest.mark.parametrize("key", SIGNERS.values(), ids=SIGNERS.keys())
def test_a_signature_is_verified_by_the_key_that_made_it_and_no_other(key: Any) -> None:
    issuer = replace(INTERMEDIATE, key=key)
    child = make(LEAF, issuer)
    assert signatures.verify_signature(child, make(issuer, ROOT)) == "sha256"
    with pytest.raises(PkiError) as caught:
        signatures.verify_signature(child, make(replace(INTERMEDIATE, key=type_of(key)), ROOT))
    assert caught.value.code == "signature-invalid"


def type_of(key: Any) -> Any:
    if isinstance(key, rsa.RSAPrivateKey):
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec_key(99, key.curve)


def test_a_signature_algorithm_of_another_kind_than_the_key_is_refused() -> None:
    child = make(LEAF, replace(INTERMEDIATE, key=rsa_key(2048)))
    with pytest.raises(PkiError) as caught:
        signatures.verify_signature(child, make(INTERMEDIATE, ROOT))
    assert caught.value.code == "signature-algorithm"


def _with_pss() -> x509.Certificate:
    key = rsa_key(2048)
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([])).serial_number(5)
    builder = builder.public_key(key.public_key()).not_valid_before(_moment(NOW)).not_valid_after(_moment(NOW + 9))
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    return builder.sign(key, hashes.SHA256(), rsa_padding=scheme)


def _moment(seconds: int) -> Any:
    return instant(seconds)


def test_a_signature_with_pss_is_verified() -> None:
    certificate = parse_certificate(_with_pss().public_bytes(Encoding.DER))
    assert signatures.verify_signature(certificate, certificate) == "sha256"


def test_pss_with_a_hash_that_is_not_known_is_refused() -> None:
    data = _with_pss().public_bytes(Encoding.DER)
    sha256, unknown = bytes.fromhex("608648016503040201"), bytes.fromhex("60864801650304020b")
    certificate = parse_certificate(data.replace(sha256, unknown))
    with pytest.raises(PkiError) as caught:
        signatures.verify_signature(certificate, certificate)
    assert caught.value.code == "signature-algorithm"


def test_a_signature_with_ed25519_is_verified() -> None:
    key = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([])).serial_number(5)
    builder = builder.public_key(key.public_key()).not_valid_before(_moment(NOW)).not_valid_after(_moment(NOW + 9))
    certificate = parse_certificate(builder.sign(key, None).public_bytes(Encoding.DER))
    assert signatures.verify_signature(certificate, certificate) == "ed25519"


def test_the_forge_makes_what_the_profile_wants() -> None:
    assert [extension.oid for extension in CERTIFICATE.extensions] == [value.oid.dotted_string for value, _ in EK]
