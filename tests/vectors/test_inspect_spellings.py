"""Quotes and certifications whose tuples are spelt as other tools and browsers spell them: the verdict is the same."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from attestd.inspection.statements import inspect_certify, inspect_quote
from attestd.tpm.public import parse_public_area, spki
from attestd.tpm.signature import parse_signature
from cert_forge import rsa_key
from inspecting import path_of, refusal_of
from testdata import manifest_items, needs_testdata

pytestmark = [pytest.mark.testdata, needs_testdata]

Document = dict[str, Any]
QUOTES = [
    item
    for item in manifest_items("quote/tpm2-synthetic")
    if item["expected"]["verdict"] == "accept" and "ak_tpmt_public" in json.loads(path_of(item).read_text())
]
CERTIFICATIONS = [
    item
    for item in manifest_items("quote/certify-webauthn")
    if json.loads(path_of(item).read_text())["signature"]["hash"] != "sha1"
]


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


def b64(text: str) -> str:
    return base64.b64encode(octets(text)).decode()


def b64url(text: str) -> str:
    return base64.urlsafe_b64encode(octets(text)).decode().rstrip("=")


def sized(text: str) -> str:
    return (len(text) // 2).to_bytes(2, "big").hex() + text


def area(text: str) -> str:
    """Return a public area without its size, which some tuples have and some have not."""
    return text[4:] if int(text[:4], 16) * 2 == len(text) - 4 else text


def rekeyed(old: str, new: str, change: Callable[[str], object] = str) -> Callable[[Document], Document]:
    return lambda found: {
        new if key == old else key: change(value) if key == old else value for key, value in found.items()
    }


def pem_key(found: Document) -> Document:
    key = load_der_public_key(spki(parse_public_area(octets(area(found.pop("ak_tpmt_public"))))))
    found["ak_pem"] = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return found


def bare_signature(found: Document) -> Document:
    """Leave the scheme's header out, as clouds and browsers do: RSA octets, or ECDSA in DER."""
    one = parse_signature(octets(found.pop("signature_tpmt")))
    found["signature"] = {"alg": one.scheme, "hash": one.hash}
    found["signature_raw"] = (one.rsa if one.rsa is not None else encode_dss_signature(one.r, one.s)).hex()
    return found


def registers(change: Callable[[Document], object]) -> Callable[[Document], Document]:
    return lambda found: {**found, "pcrs": change(found["pcrs"])}


def as_list(banks: Document) -> list[Document]:
    return [{"bank": bank, "index": int(i), "value": v} for bank, values in banks.items() for i, v in values.items()]


def list_of_quotes(found: Document) -> Document:
    """Return the form of go-tpm-tools: one key, a quote for each bank with its registers."""
    bank, values = next(iter(found["pcrs"].items()))
    quote = {
        "quote": b64(found["attest"]),
        "rawSig": b64(found["signature_tpmt"]),
        "pcrs": {"hash": bank.upper(), "pcrs": {index: b64(value) for index, value in values.items()}},
    }
    return {"akPub": b64(area(found["ak_tpmt_public"])), "nonce": found["nonce"], "quotes": [quote]}


def test_a_quote_in_a_list_of_quotes_is_that_quote() -> None:
    single = [one for one in (json.loads(path_of(item).read_text()) for item in QUOTES) if len(one["pcrs"]) == 1]
    assert single
    for document in single:
        report = inspect_quote(json.dumps(list_of_quotes(document)).encode())
        assert (report.accepted, report.pcr_digest_match) == (True, True)


def test_a_statement_alone_is_shown_and_not_accepted() -> None:
    data = octets(json.loads(path_of(QUOTES[0]).read_text())["attest"])
    for form in (data, len(data).to_bytes(2, "big") + data):
        report = inspect_quote(form)
        assert report.attest is not None
        assert "ak-missing" in [code for code, _ in report.reasons]


SPELLINGS: dict[str, Callable[[Document], Document]] = {
    "attest sized": rekeyed("attest", "attest", sized),
    "attest in base64": rekeyed("attest", "quoted", b64),
    "attest as numbers": rekeyed("attest", "message", lambda text: list(octets(text))),
    "attest in capitals with 0x": rekeyed("attest", "attest", lambda text: "0x" + text.upper()),
    "signature sized": rekeyed("signature_tpmt", "sig", sized),
    "signature in base64url": rekeyed("signature_tpmt", "tpmt_signature", b64url),
    "signature without its header": bare_signature,
    "key sized": rekeyed("ak_tpmt_public", "ak_tpm2b_public", lambda text: sized(area(text))),
    "key bare": rekeyed("ak_tpmt_public", "tpmt_public", area),
    "key in base64": rekeyed("ak_tpmt_public", "ak_pub", b64),
    "key in PEM": pem_key,
    "nonce under another name": rekeyed("nonce", "qualifying_data", str.upper),
    "registers in capitals": registers(
        lambda banks: {
            bank.upper(): {f"PCR{i}": v.upper() for i, v in values.items()} for bank, values in banks.items()
        }
    ),
    "registers by algorithm number": registers(
        lambda banks: {
            {"sha1": "0x0004", "sha256": "11", "sha384": "0x000c", "sha512": "0x000D"}[b]: v for b, v in banks.items()
        }
    ),
    "registers in a list": registers(as_list),
    "banks of no TPM beside them": registers(lambda banks: {**banks, "sha3_256": {"0": "00" * 32}}),
}


@pytest.mark.parametrize("respell", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_quote_in_another_spelling_has_the_same_verdict(respell: Callable[[Document], Document]) -> None:
    assert len(QUOTES) > 5
    for item in QUOTES:
        document = json.loads(path_of(item).read_text())
        plain, spelt = (inspect_quote(json.dumps(one).encode()) for one in (document, respell(dict(document))))
        assert (plain.accepted, spelt.reasons) == (True, ())
        assert (spelt.signature_valid, spelt.nonce_match) == (plain.signature_valid, plain.nonce_match)
        assert spelt.pcr_digest_match == plain.pcr_digest_match


@pytest.mark.parametrize("respell", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_q04_a_changed_quote_in_another_spelling_is_refused(respell: Callable[[Document], Document]) -> None:
    document = json.loads(path_of(QUOTES[0]).read_text())
    document["attest"] = document["attest"][:-2] + f"{int(document['attest'][-2:], 16) ^ 1:02x}"
    assert inspect_quote(json.dumps(respell(document)).encode()).signature_valid is False


def test_a_browsers_attestation_statement_is_a_certification() -> None:
    codes = {("rsassa", "sha256"): -257, ("ecdsa", "sha256"): -7}
    assert CERTIFICATIONS
    for item in CERTIFICATIONS:
        found = json.loads(path_of(item).read_text())
        told = found["signature"]
        statement = {
            "fmt": "tpm",
            "attStmt": {
                "alg": codes[told["alg"], told["hash"]],
                "ver": "2.0",
                "certInfo": b64url(found["attest"]),
                "pubArea": b64url(found["pubArea"]),
                "sig": b64url(found["signature_raw"]),
                "x5c": [b64(one) for one in found["x5c"]],
            },
        }
        report = inspect_certify(json.dumps(statement).encode())
        assert (report.signature_valid, report.name_match) == (True, True)


WRONG: dict[str, object] = {
    "a number": 7,
    "true": True,
    "an object": {"a": 1},
    "a text": "not octets!",
    "a list of texts": ["a", {}],
}


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize(
    "field", ["attest", "signature_tpmt", "ak_tpmt_public", "nonce", "pcrs", "pubArea", "x5c", "signature", "attStmt"]
)
def test_a_tuple_with_a_wrong_type_is_refused_or_judged_and_nothing_breaks(field: str, value: object) -> None:
    document = {**json.loads(path_of(QUOTES[0]).read_text()), field: value}
    data = json.dumps(document).encode()
    code = refusal_of(lambda: inspect_quote(data))
    assert code in {None, "hex-malformed", "pcrs-malformed", "tuple-malformed", "ak-malformed"}
    if code is None and field in ("attest", "signature_tpmt", "ak_tpmt_public"):
        assert not inspect_quote(data).accepted


# --- schemes, sizes and curves ----------------------------------------------------------------------------------------------

MESSAGE = json.loads(path_of(QUOTES[0]).read_text())["attest"] if QUOTES else ""
DIGESTS = {
    "sha1": (4, hashes.SHA1()),
    "sha256": (11, hashes.SHA256()),
    "sha384": (12, hashes.SHA384()),
    "sha512": (13, hashes.SHA512()),
}
CURVES = {
    "P-256": (ec.SECP256R1(), "sha256", None),
    "P-384": (ec.SECP384R1(), "sha384", None),
    "P-521": (ec.SECP521R1(), "sha512", None),
    "P-224": (ec.SECP224R1(), "sha256", "ak-scheme"),
    "P-192": (ec.SECP192R1(), "sha256", "ak-scheme"),
}


def spki_of(key: Any) -> str:
    octets_: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return octets_.hex()


def judged(document: Document) -> tuple[bool | None, list[str]]:
    report = inspect_quote(json.dumps({"attest": MESSAGE, **document}).encode())
    return report.signature_valid, [code for code, _ in report.reasons]


@pytest.mark.parametrize(("curve", "digest", "code"), CURVES.values(), ids=CURVES.keys())
def test_a_signature_on_any_curve_is_judged_by_its_mathematics(curve: Any, digest: str, code: str | None) -> None:
    key = ec.derive_private_key(17, curve)
    number, form = DIGESTS[digest]
    r, s = decode_dss_signature(key.sign(octets(MESSAGE), ec.ECDSA(form)))
    parts = b"".join(
        len(one).to_bytes(2, "big") + one for one in (n.to_bytes((n.bit_length() + 7) // 8, "big") for n in (r, s))
    )
    document = {"signature_tpmt": (b"\0\x18" + number.to_bytes(2, "big") + parts).hex(), "ak_spki_der": spki_of(key)}

    assert judged(document) == (True, [code] if code else [])
    assert judged({**document, "attest": MESSAGE[:-2] + "ff"})[0] is False


@pytest.mark.parametrize("salt", [0, 20, 32, padding.PSS.MAX_LENGTH])
@pytest.mark.parametrize("digest", ["sha256", "sha512"])
def test_a_signature_with_any_salt_is_valid(salt: Any, digest: str) -> None:
    key, (_, form) = rsa_key(2048), DIGESTS[digest]
    made = key.sign(octets(MESSAGE), padding.PSS(padding.MGF1(form), salt), form)
    document = {
        "signature_raw": made.hex(),
        "signature": {"alg": "rsapss", "hash": digest},
        "ak_spki_der": spki_of(key),
    }
    assert judged(document) == (True, [])


@pytest.mark.parametrize(("bits", "codes"), [(1024, ["ak-scheme"]), (2048, []), (3072, []), (4096, [])])
def test_a_signature_by_an_rsa_key_of_any_size_is_judged_by_its_mathematics(bits: int, codes: list[str]) -> None:
    key = rsa_key(bits)
    made = key.sign(octets(MESSAGE), padding.PKCS1v15(), hashes.SHA384())
    document = {
        "signature_raw": made.hex(),
        "signature": {"alg": "RSASSA", "hash": "SHA384"},
        "ak_spki_der": spki_of(key),
    }
    assert judged(document) == (True, codes)


@pytest.mark.parametrize("number", [0x0005, 0x0010, 0x001A, 0x001B, 0x001C, 0x7FFF])
def test_a_scheme_that_is_not_verified_is_refused_and_its_signature_unknown(number: int) -> None:
    document = {"signature_tpmt": number.to_bytes(2, "big").hex() + "000b" + "0020" + "11" * 32 + "0020" + "22" * 32}
    valid, codes = judged({**document, "ak_spki_der": spki_of(ec.derive_private_key(17, ec.SECP256R1()))})
    assert (valid, "quote-scheme" in codes) == (None, True)
