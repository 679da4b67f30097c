"""Prepare, redeem, issue: nothing of a client's reaches a certificate, and a grant buys one."""

import copy
import pickle
import threading
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from attestd_pki import der, names, profiles
from attestd_pki.development import DEVELOPMENT_MARK, DevelopmentBackend, development_issuer, new_development_ca
from attestd_pki.errors import PkiError
from attestd_pki.grant import Grant
from attestd_pki.issuer import Issuer, IssuerIdentity, RedeemedGrant, prepare, redeem
from pki_world import (
    CA_KEY,
    CA_SERIAL,
    CRL_URL,
    DEVICE_KEY,
    EK_SPKI,
    NOW,
    OTHER_CA_KEY,
    SERIAL,
    SUFFIX,
    TRUST_DOMAIN,
    MemoryLedger,
    a_grant,
    an_authority,
    an_issuer,
    issue,
    pem,
    spki,
)


def prepared_for(grant: Grant, issuer: Issuer | None = None, **changes: Any) -> Any:
    arguments: dict[str, Any] = {"serial": SERIAL, "crl_url": CRL_URL, **changes}
    return prepare(grant, issuer=(issuer or an_issuer()).identity, **arguments)


def redeemed(grant: Grant) -> RedeemedGrant:
    return redeem(grant, now=NOW, ledger=MemoryLedger())


def code_of(function: Any, *arguments: Any, **keywords: Any) -> str:
    with pytest.raises(PkiError) as caught:
        function(*arguments, **keywords)
    return caught.value.code


# --- what a certificate says ----------------------------------------------------------------------------------------


def test_every_field_of_a_device_certificate_is_the_profiles() -> None:
    grant = a_grant()
    certificate = x509.load_der_x509_certificate(issue(grant).der)
    authority = x509.load_der_x509_certificate(an_authority())
    assert certificate.version is x509.Version.v3
    assert certificate.serial_number == SERIAL
    assert certificate.issuer == authority.subject
    assert certificate.subject.rfc4514_string() == f"CN={grant.device_id}"
    assert certificate.not_valid_before_utc.timestamp() == grant.not_before
    assert certificate.not_valid_after_utc.timestamp() == grant.not_after
    assert spki_of(certificate) == grant.subject_public_key
    assert [(extension.oid.dotted_string, extension.critical) for extension in certificate.extensions] == [
        ("2.5.29.19", True),
        ("2.5.29.15", True),
        ("2.5.29.37", False),
        ("2.5.29.17", False),
        ("2.5.29.14", False),
        ("2.5.29.35", False),
        ("2.5.29.31", False),
        (profiles.GRANT_DIGEST_OID.dotted_string, False),
    ]


def test_a_device_certificate_is_for_a_client_that_signs_and_nothing_else() -> None:
    extensions = x509.load_der_x509_certificate(issue(a_grant()).der).extensions
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    assert not usage.key_encipherment


def test_a_device_certificate_carries_its_names_and_the_digest_of_its_grant() -> None:
    grant = a_grant()
    certificate = x509.load_der_x509_certificate(issue(grant).der)
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in alternative] == [grant.uri, grant.dns_name]
    assert profiles.grant_digest_of(certificate) == grant.digest()


def test_the_chain_that_comes_with_a_certificate_is_the_authoritys() -> None:
    issued = issue(a_grant())
    assert issued.chain == (an_authority(),)
    x509.load_der_x509_certificate(issued.der).verify_directly_issued_by(
        x509.load_der_x509_certificate(issued.chain[0])
    )


def test_l02_the_bytes_to_sign_are_the_same_wherever_they_are_built() -> None:
    assert prepared_for(a_grant()).tbs == prepared_for(a_grant(), an_issuer()).tbs


def test_an_authority_says_that_it_is_for_development() -> None:
    assert DEVELOPMENT_MARK in repr(an_issuer())
    assert DEVELOPMENT_MARK in x509.load_der_x509_certificate(issue(a_grant()).der).issuer.rfc4514_string()


# --- C01: a client's wishes -----------------------------------------------------------------------------------------


def test_c01_what_a_hostile_caller_adds_to_the_prepared_bytes_is_refused() -> None:
    grant, issuer = a_grant(), an_issuer()
    honest = prepared_for(grant)
    for tbs in (
        honest.tbs + b"\x00",
        honest.tbs[:-1] + bytes([honest.tbs[-1] ^ 1]),
        prepared_for(grant, serial=SERIAL + 1).tbs,
        prepared_for(a_grant(not_after=NOW + 7200)).tbs,
        prepared_for(a_grant(subject_public_key=spki(ec.derive_private_key(5, ec.SECP256R1())))).tbs,
        b"",
    ):
        assert tbs != honest.tbs
        assert code_of(issuer.issue, replace(honest, tbs=tbs), redeemed(grant), now=NOW) == "prepared-altered"


def test_c01_a_prepared_certificate_of_another_grant_is_refused() -> None:
    grant = a_grant()
    other = prepared_for(a_grant(grant_id=bytes(16)))
    assert code_of(an_issuer().issue, other, redeemed(grant), now=NOW) == "prepared-other-grant"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"uri": names.spiffe_id("other.example", names.device_id(EK_SPKI))}, "grant-other-trust-domain"),
        ({"dns_name": names.dns_name(names.device_id(EK_SPKI), "other.example")}, "grant-other-suffix"),
        ({"subject_public_key": b"\x30\x00"}, "subject-key-malformed"),
    ],
)
def test_c01_a_grant_outside_the_authoritys_names_is_refused(change: dict[str, Any], code: str) -> None:
    assert code_of(prepared_for, a_grant(**change)) == code


KEYS: dict[str, tuple[Any, str]] = {
    "P-521": (ec.derive_private_key(5, ec.SECP521R1()), "subject-key-algorithm"),
    "secp256k1": (ec.derive_private_key(5, ec.SECP256K1()), "subject-key-algorithm"),
    "RSA 1024": (rsa.generate_private_key(public_exponent=65537, key_size=1024), "subject-key-size"),
    "RSA exponent 3": (rsa.generate_private_key(public_exponent=3, key_size=2048), "subject-key-size"),
}


@pytest.mark.parametrize(("key", "code"), KEYS.values(), ids=KEYS.keys())
def test_c01_a_subject_key_of_an_unknown_kind_is_refused(key: Any, code: str) -> None:
    assert code_of(prepared_for, a_grant(subject_public_key=spki(key))) == code


def test_c01_a_second_encoding_of_a_subject_key_is_refused() -> None:
    point = DEVICE_KEY.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    compressed = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point
    assert code_of(prepared_for, a_grant(subject_public_key=compressed)) == "subject-key-not-der"


@pytest.mark.parametrize("serial", [0, -1, 1, 2**64 - 1, 2**159])
def test_a_serial_number_that_was_not_drawn_at_random_is_refused(serial: int) -> None:
    assert code_of(prepared_for, a_grant(), serial=serial) == "serial-range"


@pytest.mark.parametrize(
    "url", ["", "ftp://x/", "file:///etc/passwd", "http://x/\n", "http://x/é", "http://x/" + "a" * 512, "http://x y/"]
)
def test_a_crl_url_that_is_none_is_refused(url: str) -> None:
    assert code_of(prepared_for, a_grant(), crl_url=url) == "crl-url"


def test_a_certificate_that_would_outlive_its_authority_is_refused() -> None:
    late = NOW + 365 * 86_400
    grant = a_grant(minted_at=late, not_before=late, not_after=late + 60, expires_at=late + 60)
    assert code_of(prepared_for, grant) == "issuer-expired"


# --- C02: grants ----------------------------------------------------------------------------------------------------


def test_c02_a_grant_is_redeemed_once() -> None:
    ledger = MemoryLedger()
    redeem(a_grant(), now=NOW, ledger=ledger)
    assert code_of(redeem, a_grant(), now=NOW, ledger=ledger) == "grant-used"


def test_c02_a_redeemed_grant_buys_one_certificate() -> None:
    grant, issuer = a_grant(), an_issuer()
    token = redeemed(grant)
    issuer.issue(prepared_for(grant), token, now=NOW)
    assert code_of(issuer.issue, prepared_for(grant, serial=SERIAL + 1), token, now=NOW) == "grant-used"


def test_c02_a_refused_issue_spends_the_grant() -> None:
    grant, issuer = a_grant(), an_issuer()
    token = redeemed(grant)
    assert code_of(issuer.issue, prepared_for(a_grant(grant_id=bytes(16))), token, now=NOW) == "prepared-other-grant"
    assert code_of(issuer.issue, prepared_for(grant), token, now=NOW) == "grant-used"


def test_c02_one_of_many_threads_gets_the_grant() -> None:
    token, outcomes = redeemed(a_grant()), []
    start = threading.Barrier(8)

    def spend() -> None:
        start.wait()
        try:
            outcomes.append(token.spend().grant_id)
        except PkiError as error:
            outcomes.append(error.code.encode())

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == sorted([a_grant().grant_id] + [b"grant-used"] * 7)


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickle.dumps])
def test_c02_a_redeemed_grant_cannot_be_copied(make: Any) -> None:
    with pytest.raises(TypeError):
        make(redeemed(a_grant()))


def test_c02_nobody_but_redeem_makes_a_redeemed_grant() -> None:
    with pytest.raises(TypeError):
        RedeemedGrant(a_grant(), proof=object())


@pytest.mark.parametrize(("now", "code"), [(NOW - 1, "grant-not-yet-valid"), (NOW + 60, "grant-expired")])
def test_c02_a_grant_outside_its_minute_is_refused_and_not_recorded(now: int, code: str) -> None:
    ledger = MemoryLedger()
    assert code_of(redeem, a_grant(), now=now, ledger=ledger) == code
    assert ledger.used == {}


def test_c02_a_grant_that_expires_between_redeeming_and_issuing_is_refused() -> None:
    grant = a_grant()
    assert code_of(an_issuer().issue, prepared_for(grant), redeemed(grant), now=NOW + 60) == "grant-expired"


# --- the signer -----------------------------------------------------------------------------------------------------


@dataclass
class FaultyBackend:
    """A development backend whose signatures are replaced."""

    honest: DevelopmentBackend
    signature: bytes
    algorithm: str = "Ed25519"

    def public_key(self) -> bytes:
        return self.honest.public_key()

    def sign(self, tbs: bytes, grant: Grant) -> bytes:
        return self.signature

    def sign_crl(self, tbs: bytes, content: object) -> bytes:
        return self.signature


@pytest.mark.parametrize("signature", [b"", bytes(64), CA_KEY.sign(b"something else"), bytes(65)])
def test_l03_a_signature_that_does_not_verify_never_leaves(signature: bytes) -> None:
    grant = a_grant()
    issuer = Issuer(an_issuer().identity, FaultyBackend(DevelopmentBackend(CA_KEY), signature))
    assert code_of(issuer.issue, prepared_for(grant), redeemed(grant), now=NOW) == "issuer-bad-signature"


def test_an_unknown_signature_algorithm_is_refused() -> None:
    backend = FaultyBackend(DevelopmentBackend(CA_KEY), b"", algorithm="none")
    assert code_of(Issuer, an_issuer().identity, backend) == "issuer-algorithm"


def test_a_backend_with_another_key_is_refused() -> None:
    assert code_of(Issuer, an_issuer().identity, DevelopmentBackend(OTHER_CA_KEY)) == "issuer-key-mismatch"


def test_the_lint_refuses_a_certificate_of_another_grant() -> None:
    certificate = x509.load_der_x509_certificate(issue(a_grant()).der)
    authority = x509.load_der_x509_certificate(an_authority())
    for other in ({"not_after": NOW + 60}, {"grant_id": bytes(16)}, {"subject_public_key": spki(OTHER_CA_KEY)}):
        code = code_of(profiles.lint_device, certificate, a_grant(**other), issuer=authority, crl_url=CRL_URL)
        assert code == "certificate-profile"


def test_the_lint_refuses_a_certificate_with_an_extension_more() -> None:
    grant = a_grant()
    authority = x509.load_der_x509_certificate(an_authority())
    certificate = x509.load_der_x509_certificate(issue(grant).der)
    builder = (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(certificate.issuer)
        .public_key(DEVICE_KEY.public_key())
        .serial_number(SERIAL)
        .not_valid_before(certificate.not_valid_before_utc)
        .not_valid_after(certificate.not_valid_after_utc)
    )
    for extension in certificate.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    same = builder.sign(CA_KEY, None)
    profiles.lint_device(same, grant, issuer=authority, crl_url=CRL_URL)
    more = builder.add_extension(x509.OCSPNoCheck(), critical=False).sign(CA_KEY, None)
    assert code_of(profiles.lint_device, more, grant, issuer=authority, crl_url=CRL_URL) == "certificate-profile"


def test_l02_a_certificate_that_violates_the_profile_never_leaves_even_if_it_was_built_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = profiles.device_extensions

    def faulty(grant: Grant, **arguments: Any) -> Any:
        extensions = honest(grant, **arguments)
        return ((x509.BasicConstraints(ca=True, path_length=None), True), *extensions[1:])

    grant, issuer = a_grant(), an_issuer()
    with monkeypatch.context() as patch:
        patch.setattr(profiles, "device_extensions", faulty)
        tbs = prepared_for(grant).tbs
    monkeypatch.setattr(profiles, "device_tbs", lambda *_, **__: tbs)
    assert code_of(issuer.issue, prepared_for(grant), redeemed(grant), now=NOW) == "certificate-profile"


# --- authorities ----------------------------------------------------------------------------------------------------


def test_an_identity_knows_its_trust_domain_from_its_certificate() -> None:
    identity = IssuerIdentity.of((an_authority(),), dns_suffix=SUFFIX)
    assert (identity.trust_domain, identity.spki) == (TRUST_DOMAIN, spki(CA_KEY))


def test_a_device_certificate_is_no_authority() -> None:
    assert code_of(IssuerIdentity.of, (issue(a_grant()).der,), dns_suffix=SUFFIX) == "authority-profile"


@pytest.mark.parametrize("chain", [(), (b"",), (b"\x30\x00",)])
def test_an_authority_that_cannot_be_read_is_refused(chain: tuple[bytes, ...]) -> None:
    assert code_of(IssuerIdentity.of, chain, dns_suffix=SUFFIX) == "authority-malformed"


def test_an_authority_without_the_development_mark_is_not_used_with_a_key_file() -> None:
    tbs = profiles.authority_tbs(
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Production")]),
        spki(CA_KEY),
        trust_domain=TRUST_DOMAIN,
        not_before=NOW,
        not_after=NOW + 86_400,
        serial=CA_SERIAL,
    )
    authority = der.signed(tbs, CA_KEY.sign(tbs))
    assert IssuerIdentity.of((authority,), dns_suffix=SUFFIX).trust_domain == TRUST_DOMAIN
    assert code_of(development_issuer, pem(CA_KEY), authority, dns_suffix=SUFFIX) == "development-ca-unmarked"


@pytest.mark.parametrize("data", [b"", b"not PEM", pem(DEVICE_KEY)], ids=["empty", "text", "another kind"])
def test_a_development_key_of_another_kind_is_refused(data: bytes) -> None:
    assert code_of(DevelopmentBackend.from_pem, data) == "development-key-malformed"


def test_c06_a_development_key_never_shows_itself() -> None:
    key = Ed25519PrivateKey.from_private_bytes(b"\x42" * 32)
    backend = DevelopmentBackend(key)
    assert "42424242" not in repr(backend)
    assert "BBBB" not in repr(backend)
    with pytest.raises(PkiError) as caught:
        DevelopmentBackend.from_pem(pem(key)[:-30])
    assert caught.value.__cause__ is None
    assert "MC4C" not in str(caught.value)


def test_an_authority_lives_at_most_twenty_years() -> None:
    code = code_of(
        new_development_ca,
        "bench",
        TRUST_DOMAIN,
        key=DevelopmentBackend(CA_KEY),
        not_before=NOW,
        not_after=NOW + 25 * 366 * 86_400,
        serial=CA_SERIAL,
    )
    assert code == "authority-validity"


def spki_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
