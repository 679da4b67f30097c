"""At least these revocations: a profile says what has to be revoked, and a device may revoke more."""

from hashlib import sha256
from struct import pack
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appraisal_cases import NOW_MS, boot, component, evidence
from attestd.appraisal.appraise import appraise
from attestd.appraisal.profile import ProfileError, load_profile, parse_profile_yaml
from attestd.appraisal.revocation import revokes
from attestd.evidence.types import Component

SHA256_LIST = UUID("c1c41626-504c-4092-aca9-41f936934328").bytes_le
X509_LIST = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").bytes_le
OLD, NEW, OTHER = (sha256(word).digest() for word in (b"old", b"new", b"other"))


def database(*entries: bytes, kind: bytes = SHA256_LIST) -> bytes:
    size = 16 + len(entries[0])
    return kind + pack("<III", 28 + size * len(entries), 0, size) + b"".join(bytes(16) + entry for entry in entries)


def dbx(data: bytes | None) -> Component:
    return component("secure-boot-dbx", "dbx", value=None)._replace(data=data)


def level(text: str) -> Component:
    return component("secure-boot-authority", "level", value=f"SbatLevel {text}")


def affirmed(rule: str, *components: Component, claim: str = "secure-boot-dbx") -> bool:
    profile = parse_profile_yaml(
        f"profile: a\nversion: 1\nclaims: {{{claim}: {{check: required, accept: [{{revokes: [{rule}]}}]}}}}"
    )
    assert load_profile(profile.document) == profile
    return appraise(evidence(boot(*components)), profile, now_ms=NOW_MS).affirming


@pytest.mark.parametrize(
    ("data", "accepted"),
    [
        (database(OLD, NEW), True),
        (database(OTHER, NEW, OLD), True),
        (database(OLD), False),
        (database(OTHER), False),
        (b"", False),
        (database(OLD, NEW)[:-1], False),
        (None, False),
    ],
)
def test_a_database_has_to_have_all_that_is_listed_and_may_have_more(data, accepted):
    assert affirmed(f"sha256:{OLD.hex()}, sha256:{NEW.hex()}", dbx(data)) is accepted


def test_a_revoked_certificate_is_told_by_its_hash():
    assert affirmed(f"sha256:{sha256(b'certificate').hexdigest()}", dbx(database(b"certificate", kind=X509_LIST)))


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("sbat,1,2022111500\nshim,2\ngrub,3\n", True),
        ("sbat,1,2024010900\nshim,4\ngrub,3\ngrub.debian,4\n", True),
        ("sbat,1,2024010900\nshim,1\ngrub,3\n", False),
        ("sbat,1,2022052400\nshim,2\ngrub,3\n", False),
        ("sbat,1,2022111500\nshim,2\n", False),
        ("", False),
    ],
)
def test_a_level_has_to_be_as_high_as_the_one_that_is_listed(text, accepted):
    rule = '"sbat,1,2022111500", "shim,2", "grub,3"'
    assert affirmed(rule, level(text), claim="secure-boot-authority") is accepted


def test_a_certificate_is_no_level():
    other = component("secure-boot-authority", "db", value="db sha256:00\nshim,9")
    assert not affirmed('"shim,2"', other, claim="secure-boot-authority")


@pytest.mark.parametrize(
    "claims",
    [
        "secure-boot-db: {check: required, accept: [{revokes: ['sha256:" + "00" * 32 + "']}]}",
        "secure-boot-dbx: {check: required, accept: [{revokes: []}]}",
        "secure-boot-dbx: {check: required, accept: [{revokes: ['shim,2']}]}",
        "secure-boot-authority: {check: required, accept: [{revokes: ['shim']}]}",
        "secure-boot-authority: {check: required, accept: [{revokes: ['shim,2'], text: a}]}",
    ],
)
def test_what_is_no_revocation_is_refused(claims):
    with pytest.raises(ProfileError):
        parse_profile_yaml(f"profile: a\nversion: 1\nclaims: {{{claims}}}")


@given(data=st.binary(max_size=120), value=st.none() | st.text(max_size=60))
def test_whatever_was_measured_the_answer_is_yes_or_no(data, value):
    assert revokes(("sha256:00",), value=value, data=data) is False
    assert revokes(("shim,2",), value=f"SbatLevel {value}", data=None) in (True, False)
