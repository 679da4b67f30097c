"""XML signatures whose references and transforms leave two readings of what was signed: none of them is verified."""

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import manifest_forge as forge
from attestd.inspection.rim import inspect_rim

KEY = forge.SIGNER.key
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
ENVELOPED = f'<Transform Algorithm="{forge.DSIG}enveloped-signature"/>'
INCLUSIVE = f'<Transform Algorithm="{forge.INCLUSIVE}"/>'
PART = f'<Reference URI="#part"><DigestMethod Algorithm="{forge.SHA256}"/><DigestValue>AAAA</DigestValue></Reference>'
WHOLE = forge.tag('<File Id="part" name="x"/>')


def reasons(data: bytes) -> list[str]:
    found: list[str] = inspect_rim(data, None, SPKI, at=forge.AT).document()["reasons"]
    return found


def test_a_name_that_the_document_and_something_in_its_signature_have_is_no_reference() -> None:
    named = forge.tag(attributes=' Id="all"')
    assert reasons(forge.signed_tag(named, KEY, uri="#all")) == []
    assert reasons(forge.signed_tag(named, KEY, uri="#all", objects='<Object Id="all"/>')) == ["rim-signature-form"]


def test_a_reference_to_a_part_beside_the_one_to_the_document_is_of_no_known_form() -> None:
    assert reasons(forge.signed_tag(WHOLE, KEY, references=PART)) == ["rim-signature-form"]


@pytest.mark.parametrize(
    ("transforms", "code"),
    [
        pytest.param(INCLUSIVE, "rim-signature-form", id="the-signature-not-left-out"),
        pytest.param(ENVELOPED * 2 + INCLUSIVE, "rim-signature-form", id="left-out-twice"),
        pytest.param(ENVELOPED + INCLUSIVE * 2, "rim-signature-form", id="two-canonical-forms"),
        pytest.param(INCLUSIVE + ENVELOPED, "rim-signature", id="another-order-than-was-signed"),
    ],
)
def test_transforms_of_another_number_are_of_no_known_form(transforms: str, code: str) -> None:
    data = forge.signed_tag(WHOLE, KEY)
    changed = data.replace((ENVELOPED + INCLUSIVE).encode(), transforms.encode())
    assert changed != data
    assert reasons(changed) == [code]
