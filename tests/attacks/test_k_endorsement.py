"""K04, K05, K06: endorsement key certificates that are another chip's, absent, or not what they must be.

The manufacturer's root signs whatever it is told: every certificate here has a valid signature unless that is what is attacked,
and each is wrong in one way.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

import cert_forge as forge
import tpm_structures as tpm
from activation import WrongCredential
from attestd.evidence.ek import BUDGET, EkPolicy
from attestd.protocol import codec, limits
from attestd.protocol.messages import PATH_ENROL, EnrolChallenge
from attestd.protocol.reasons import Reason
from attestd_pki.certificate import parse_certificate
from attestd_pki.chain import TrustStore
from exchanges import Enrolment, refused, verifier_in_memory
from softchip import GOOD_MAKER, UNKNOWN_MAKER, Maker, SoftChip
from world import World

ChipFactory = Callable[..., SoftChip]
DAY = 86_400
ROOT = GOOD_MAKER.root
RSA_ROOT = forge.Plan("Example RSA TPM Root CA", forge.rsa_key(2048), forge.CA, not_before=0, not_after=4_000_000_000)
CONSTRAINED_ROOT = replace(
    ROOT,
    subject="Example Constrained TPM Root CA",
    key=forge.ec_key(77),
    extensions=(
        *forge.CA,
        (x509.NameConstraints([x509.DirectoryName(forge.name("nobody"))], None), True),
    ),
)
SHORT_ROOT = replace(
    ROOT,
    subject="Example TPM Root CA of one step",
    key=forge.ec_key(78),
    extensions=(
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (forge.usage("key_cert_sign", "crl_sign"), True),
    ),
)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A verifier that accepts a few made-up manufacturers."""
    anchors = tuple(forge.make(plan).der for plan in (RSA_ROOT, CONSTRAINED_ROOT, SHORT_ROOT))
    with verifier_in_memory(anchors=anchors) as made:
        made.golden(SoftChip(made.now_s))
        yield made


def without(extension_type: type[x509.ExtensionType], *instead: tuple[x509.ExtensionType, bool]) -> forge.Extensions:
    """Return the extensions of an endorsement key certificate with one left out, or others in its place."""
    kept = [pair for pair in forge.EK if not isinstance(pair[0], extension_type)]
    return (*kept, *instead)


def certificate(chip: SoftChip, issuer: forge.Plan = ROOT, *, hash_: forge.Hash | None = None, **changes: Any) -> bytes:
    """Return a certificate for this chip's endorsement key, with fields of its plan changed."""
    plan = forge.Plan("", chip.ek, forge.EK, not_before=chip.now_s - DAY, not_after=chip.now_s + 3650 * DAY)
    return forge.make(replace(plan, **changes), issuer, hash_=hash_).der


def authority(subject: str, number: int, extensions: forge.Extensions = forge.CA, **dates: int) -> forge.Plan:
    return forge.Plan(
        subject, forge.ec_key(number), extensions, **{"not_before": 0, "not_after": 4_000_000_000, **dates}
    )


def refuse(world: World, chip: SoftChip, certificates: tuple[bytes, ...], reason: Reason) -> None:
    """Show these certificates: refused, as a stranger is. Then show the honest ones: the device enrols."""
    honest = chip.certificates
    chip.certificates = certificates
    refused(world, lambda: world.begin(chip.request()), reason)
    chip.certificates = honest
    assert world.enrol(chip).state == "trusted"


# --- K04 ----------------------------------------------------------------------------------------------------------------


def test_k04_genuine_certificate_with_another_endorsement_key_is_refused(world: World, chip: ChipFactory) -> None:
    mine, theirs = chip(), chip()
    refuse(world, mine, theirs.certificates, Reason.EK_CERTIFICATE_MISMATCH)


def test_k04_certificate_with_one_bit_of_the_key_flipped_is_refused(world: World, chip: ChipFactory) -> None:
    mine = chip()
    bent = forge.flipped(parse_certificate(mine.certificates[0])).der
    refuse(world, mine, (bent,), Reason.EK_CERTIFICATE_MISMATCH)


def test_k04_certificate_of_one_device_with_the_tpm_of_another_cannot_activate(world: World, chip: ChipFactory) -> None:
    """The endorsement key and its certificate are a stolen pair: the secret goes to the TPM that holds the key."""
    stolen, mine = chip(), chip()
    request = mine.request(ek_public=tpm.sized(stolen.ek_area), ek_certificates=stolen.certificates)
    body = codec.encode(request, codec.CBOR)
    challenge = world.begin(body)
    with pytest.raises((WrongCredential, ValueError)):
        mine.activate(challenge.challenges[0].credential_blob, challenge.challenges[0].encrypted_secret)
    mine.activate = lambda *_: bytes(32)  # type: ignore[method-assign]
    refused(world, lambda: world.prove(mine.proof(body, challenge)), Reason.ACTIVATION_FAILED)
    del mine.activate  # type: ignore[method-assign]
    assert world.enrol(mine).state == "trusted"
    assert world.enrol(stolen).state == "trusted"


def test_k04_certificate_is_for_the_key_and_not_for_its_curve_or_size(world: World, chip: ChipFactory) -> None:
    mine = chip()
    others = (ec.generate_private_key(ec.SECP384R1()), tpm.rsa_key(), ec.generate_private_key(ec.SECP256K1()))
    for other in others:
        refuse(world, mine, (certificate(mine, key=other),), Reason.EK_CERTIFICATE_MISMATCH)
        mine.renew_keys()


def test_k04_endorsement_key_that_is_none_is_refused(world: World, chip: ChipFactory) -> None:
    mine = chip()
    honest = mine.ek_area
    areas = (
        mine.ak_area,
        tpm.ecc_area(mine.ek, attributes=tpm.EK_ATTRIBUTES | 1 << 18, scheme=tpm.NULL, symmetric=tpm.aes_cfb(128)),
        tpm.ecc_area(mine.ek, attributes=tpm.EK_ATTRIBUTES & ~2, scheme=tpm.NULL, symmetric=tpm.aes_cfb(128)),
        tpm.ecc_area(mine.ek, attributes=tpm.EK_ATTRIBUTES & ~(1 << 16), scheme=tpm.NULL, symmetric=tpm.aes_cfb(128)),
        tpm.ecc_area(mine.ek, attributes=tpm.EK_ATTRIBUTES, scheme=tpm.NULL),
        b"",
        honest + b"\0",
    )
    for area in areas:
        mine.ek_area = area
        refused(world, lambda: world.begin(mine.request()), Reason.EK_PUBLIC_MALFORMED)
    mine.ek_area = honest
    assert world.enrol(mine).state == "trusted"


# --- K05 ----------------------------------------------------------------------------------------------------------------


def test_k05_no_certificate_where_one_is_required_is_refused(world: World, chip: ChipFactory) -> None:
    refuse(world, chip(), (), Reason.EK_CERTIFICATE_MISSING)


@pytest.mark.parametrize("media_type", [codec.CBOR, codec.JSON])
def test_k05_list_that_is_there_and_empty_is_no_certificate(world: World, chip: ChipFactory, media_type: str) -> None:
    mine = chip()
    message = cbor2.loads(codec.encode(mine.request(), codec.CBOR)) | {"ek_certificates": []}
    body = cbor2.dumps(message)
    if media_type == codec.JSON:
        body = codec.encode(mine.request(ek_certificates=()), codec.JSON)[:-1] + b',"ek_certificates":[]}'
    refused(
        world,
        lambda: world.post(PATH_ENROL, body, EnrolChallenge, media_type=media_type),
        Reason.EK_CERTIFICATE_MISSING,
    )
    assert world.enrol(mine).state == "trusted"


def test_k05_certificates_of_authorities_alone_are_no_certificate(world: World, chip: ChipFactory) -> None:
    refuse(world, chip(), (GOOD_MAKER.anchor,), Reason.EK_CERTIFICATE_MISMATCH)


def test_k05_certificate_dropped_between_the_messages_is_refused(world: World, chip: ChipFactory) -> None:
    enrolment = Enrolment(world, chip())
    body = codec.encode(enrolment.chip.request(ek_certificates=()), codec.CBOR)
    refused(world, lambda: enrolment.send(request=body), Reason.NONCE_INVALID)
    assert enrolment.send().state == "trusted"


@pytest.mark.parametrize("padding", [b"", b"\0", b"\xff" * 512])
def test_k05_something_that_is_no_certificate_is_refused(world: World, chip: ChipFactory, padding: bytes) -> None:
    refuse(world, chip(), (b"-----BEGIN CERTIFICATE-----" + padding,), Reason.EK_CERTIFICATE_MALFORMED)


@pytest.fixture
def lenient() -> Iterator[World]:
    """A verifier that takes a TPM without a certificate if the inventory names that very key."""
    with verifier_in_memory(pinned_ek_allowed=True) as made:
        made.golden(SoftChip(made.now_s))
        yield made


def test_k05_inventory_that_pins_a_key_pins_no_other_one(lenient: World) -> None:
    known, stranger = SoftChip(lenient.now_s), SoftChip(lenient.now_s)
    for bare in (known, stranger):
        bare.certificates = ()
    lenient.announce(known)
    refused(lenient, lambda: lenient.begin(stranger.request()), Reason.EK_CERTIFICATE_MISSING)
    assert lenient.enrol(known).state == "trusted"


def test_k05_pinned_key_with_a_bad_certificate_is_refused(lenient: World) -> None:
    """Who shows a certificate is judged by it."""
    known = SoftChip(lenient.now_s, maker=UNKNOWN_MAKER)
    lenient.announce(known)
    refused(lenient, lambda: lenient.begin(known.request()), Reason.EK_CHAIN_UNTRUSTED)
    known.certificates = ()
    assert lenient.enrol(known).state == "trusted"


def test_k05_pinned_key_that_was_withdrawn_is_refused(lenient: World) -> None:
    known = SoftChip(lenient.now_s)
    known.certificates = ()
    lenient.announce(known)
    lenient.withdraw(known)
    refused(lenient, lambda: lenient.begin(known.request()), Reason.EK_CERTIFICATE_MISSING)
    lenient.announce(known)
    assert lenient.enrol(known).state == "trusted"


# --- K06: the certificate itself ---------------------------------------------------------------------------------------------

OID = x509.ObjectIdentifier
USAGES: dict[str, forge.Extensions] = {
    "no extended usage": without(x509.ExtendedKeyUsage),
    "a client's usage": without(x509.ExtendedKeyUsage, (x509.ExtendedKeyUsage([OID("1.3.6.1.5.5.7.3.2")]), False)),
    "a platform's usage": without(x509.ExtendedKeyUsage, (x509.ExtendedKeyUsage([OID("2.23.133.8.2")]), False)),
    "an attestation key's usage": without(x509.ExtendedKeyUsage, (x509.ExtendedKeyUsage([OID("2.23.133.8.3")]), False)),
    "any usage": without(x509.ExtendedKeyUsage, (x509.ExtendedKeyUsage([OID("2.5.29.37.0")]), False)),
    "an authority": without(x509.BasicConstraints, (x509.BasicConstraints(ca=True, path_length=None), True)),
    "signs certificates": without(x509.KeyUsage, (forge.usage("key_agreement", "key_cert_sign"), True)),
    "signs lists": without(x509.KeyUsage, (forge.usage("key_agreement", "crl_sign"), True)),
    "signs data alone": without(x509.KeyUsage, (forge.usage("digital_signature"), True)),
    "an unknown critical extension": (*forge.EK, (x509.UnrecognizedExtension(OID("1.2.3.4.5"), b"\x05\x00"), True)),
    "a critical policy constraint": (*forge.EK, (x509.PolicyConstraints(0, None), True)),
    "a critical name constraint": (
        *forge.EK,
        (x509.NameConstraints([x509.DirectoryName(forge.name("x"))], None), True),
    ),
}


@pytest.mark.parametrize("extensions", USAGES.values(), ids=USAGES)
def test_k06_certificate_of_another_purpose_is_refused(
    world: World, chip: ChipFactory, extensions: forge.Extensions
) -> None:
    mine = chip()
    refuse(world, mine, (certificate(mine, extensions=extensions),), Reason.EK_CERTIFICATE_PROFILE)


@pytest.mark.parametrize(
    ("begins", "ends"), [(-10 * DAY, -DAY), (-2, -1), (DAY, 10 * DAY), (60, 3600)], ids=["old", "just", "early", "soon"]
)
def test_k06_certificate_outside_its_validity_is_refused(
    world: World, chip: ChipFactory, begins: int, ends: int
) -> None:
    mine = chip()
    now = world.now_s
    bad = certificate(mine, not_before=now + begins, not_after=now + ends)
    refuse(world, mine, (bad,), Reason.EK_CERTIFICATE_EXPIRED)


def test_k06_certificate_that_expires_between_two_enrolments_is_refused(world: World, chip: ChipFactory) -> None:
    """What was verified is remembered for one enrolment, not beyond."""
    mine = chip()
    honest = mine.certificates
    mine.certificates = (certificate(mine, not_after=world.now_s + 30),)
    assert world.enrol(mine).state == "trusted"
    world.pass_time(limits.ENROLMENT_NONCE_SECONDS + 30)
    mine.renew_keys()
    refused(world, lambda: world.begin(mine.request()), Reason.EK_CERTIFICATE_EXPIRED)
    mine.certificates = honest
    assert world.enrol(mine).state == "trusted"


def test_k06_certificate_with_a_changed_signature_is_refused(world: World, chip: ChipFactory) -> None:
    mine = chip()
    der = bytearray(mine.certificates[0])
    der[-1] ^= 1
    refuse(world, mine, (bytes(der),), Reason.EK_CHAIN_UNTRUSTED)


def test_k06_certificate_with_changed_contents_is_refused(world: World, chip: ChipFactory) -> None:
    mine = chip()
    bent = mine.certificates[0].replace(b"NPCT75x", b"NPCT99x")
    assert bent != mine.certificates[0]
    refuse(world, mine, (bent,), Reason.EK_CHAIN_UNTRUSTED)


def test_k06_certificate_signed_with_a_weak_hash_is_refused(world: World, chip: ChipFactory) -> None:
    mine = chip()
    strong = parse_certificate(certificate(mine, RSA_ROOT))
    weak = forge.with_sha1(strong, RSA_ROOT.key).der
    refuse(world, mine, (weak,), Reason.EK_CERTIFICATE_WEAK)
    mine.certificates = (strong.der,)
    mine.renew_keys()
    assert world.enrol(mine).state == "trusted"


# --- K06: the way to an anchor ----------------------------------------------------------------------------------------------


def test_k06_certificate_of_a_manufacturer_that_nobody_accepted_is_refused(world: World, chip: ChipFactory) -> None:
    mine = chip()
    foreign = UNKNOWN_MAKER.certify(mine.ek, now_s=world.now_s)
    refuse(world, mine, (foreign,), Reason.EK_CHAIN_UNTRUSTED)
    mine.renew_keys()
    refuse(world, mine, (foreign, UNKNOWN_MAKER.anchor), Reason.EK_CHAIN_UNTRUSTED)


def test_k06_manufacturer_of_the_same_name_with_another_key_is_refused(world: World, chip: ChipFactory) -> None:
    mine = chip()
    impostor = Maker(replace(ROOT, key=forge.ec_key(666)))
    refuse(world, mine, (impostor.certify(mine.ek, now_s=world.now_s), impostor.anchor), Reason.EK_CHAIN_UNTRUSTED)


def test_k06_certificate_that_the_endorsement_key_signed_itself_is_refused(world: World, chip: ChipFactory) -> None:
    mine = chip()
    own = forge.Plan("self", mine.ek, forge.EK, not_before=0, not_after=4_000_000_000)
    refuse(world, mine, (forge.make(own).der,), Reason.EK_CHAIN_UNTRUSTED)


def test_k06_intermediate_that_leads_to_the_anchor_is_accepted(world: World, chip: ChipFactory) -> None:
    """The positive case of all that follow."""
    mine = chip()
    between = authority("Between", 22)
    mine.certificates = (certificate(mine, between), forge.make(between, ROOT).der)
    assert world.enrol(mine).state == "trusted"


NO_AUTHORITY: dict[str, forge.Extensions] = {
    "another chip's certificate": forge.EK,
    "no authority": (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (forge.usage("key_cert_sign"), True),
    ),
    "no constraints": ((forge.usage("key_cert_sign", "crl_sign"), True),),
    "may not sign": ((x509.BasicConstraints(ca=True, path_length=None), True), (forge.usage("crl_sign"), True)),
}


@pytest.mark.parametrize("extensions", NO_AUTHORITY.values(), ids=NO_AUTHORITY)
def test_k06_issuer_that_is_no_authority_is_refused(
    world: World, chip: ChipFactory, extensions: forge.Extensions
) -> None:
    mine = chip()
    between = authority("Between", 23, extensions)
    refuse(world, mine, (certificate(mine, between), forge.make(between, ROOT).der), Reason.EK_CHAIN_UNTRUSTED)


def test_k06_issuer_outside_its_validity_is_refused(world: World, chip: ChipFactory) -> None:
    for begins, ends in ((0, world.now_s - DAY), (world.now_s + DAY, 4_000_000_000)):
        mine = chip()
        between = authority("Between", 24, not_before=begins, not_after=ends)
        refuse(world, mine, (certificate(mine, between), forge.make(between, ROOT).der), Reason.EK_CERTIFICATE_EXPIRED)


def test_k06_issuer_with_an_unknown_critical_extension_is_refused(world: World, chip: ChipFactory) -> None:
    mine = chip()
    between = authority("Between", 25, (*forge.CA, (x509.UnrecognizedExtension(OID("1.2.3.4"), b"\x05\x00"), True)))
    refuse(world, mine, (certificate(mine, between), forge.make(between, ROOT).der), Reason.EK_CERTIFICATE_PROFILE)


def test_k06_path_longer_than_its_authority_allows_is_refused(world: World, chip: ChipFactory) -> None:
    mine = chip()
    between = authority("Between", 26)
    direct = certificate(mine, SHORT_ROOT)
    refuse(world, mine, (certificate(mine, between), forge.make(between, SHORT_ROOT).der), Reason.EK_CHAIN_UNTRUSTED)
    mine.certificates = (direct,)
    mine.renew_keys()
    assert world.enrol(mine).state == "trusted"


def test_k06_path_longer_than_any_real_one_is_refused(world: World, chip: ChipFactory) -> None:
    def path(mine: SoftChip, steps: int) -> tuple[bytes, ...]:
        above, made = ROOT, []
        for number in range(steps):
            plan = authority(f"Step {number}", 100 + number)
            made.append(forge.make(plan, above).der)
            above = plan
        return (certificate(mine, above), *made)

    mine = chip()
    refuse(world, mine, path(mine, BUDGET.depth - 1), Reason.EK_CHAIN_UNTRUSTED)
    mine.certificates = path(mine, BUDGET.depth - 2)
    mine.renew_keys()
    assert world.enrol(mine).state == "trusted"


def test_k06_more_certificates_than_any_chip_has_are_refused(world: World, chip: ChipFactory) -> None:
    mine = chip()
    many = mine.certificates * (limits.MAX_EK_CERTIFICATES + 1)
    refused(world, lambda: world.begin(mine.request(ek_certificates=many)), Reason.MESSAGE_MALFORMED)
    assert world.enrol(mine).state == "trusted"


def test_k06_authority_with_name_constraints_is_refused(world: World, chip: ChipFactory) -> None:
    mine = chip()
    refuse(world, mine, (certificate(mine, CONSTRAINED_ROOT),), Reason.EK_CHAIN_UNTRUSTED)
    mine.renew_keys()
    between = authority(
        "Between",
        27,
        (*forge.CA, (x509.NameConstraints(None, [x509.DirectoryName(forge.name("somebody"))]), False)),
    )
    refuse(world, mine, (certificate(mine, between), forge.make(between, ROOT).der), Reason.EK_CHAIN_UNTRUSTED)


def test_k06_issuer_with_a_weak_key_is_refused(world: World, chip: ChipFactory) -> None:
    mine = chip()
    between = replace(authority("Between", 28), key=forge.rsa_key(1024))
    refuse(world, mine, (certificate(mine, between), forge.make(between, ROOT).der), Reason.EK_CERTIFICATE_WEAK)


@pytest.mark.parametrize("curve", [ec.SECP192R1(), ec.SECP224R1(), ec.SECP256K1()], ids=lambda curve: curve.name)
def test_k06_issuer_on_a_curve_that_is_weak_or_unknown_is_refused(
    world: World, chip: ChipFactory, curve: ec.EllipticCurve
) -> None:
    mine = chip()
    between = replace(authority("Between", 29), key=ec.generate_private_key(curve))
    refuse(world, mine, (certificate(mine, between), forge.make(between, ROOT).der), Reason.EK_CHAIN_UNTRUSTED)


def test_k06_two_authorities_that_signed_each_other_lead_nowhere(world: World, chip: ChipFactory) -> None:
    mine = chip()
    one, other = authority("One", 31), authority("Other", 32)
    loop = (certificate(mine, one), forge.make(one, other).der, forge.make(other, one).der)
    refuse(world, mine, loop, Reason.EK_CHAIN_UNTRUSTED)


def test_k06_anchor_that_was_removed_is_trusted_no_longer() -> None:
    """The same certificate at a verifier without that anchor: no memory, no public list of authorities."""
    nobody = EkPolicy(TrustStore.of([parse_certificate(UNKNOWN_MAKER.anchor)]))
    with verifier_in_memory(ek_policy=nobody) as made:
        mine = SoftChip(made.now_s)
        made.announce(mine)
        made.golden(mine)
        refused(made, lambda: made.begin(mine.request()), Reason.EK_CHAIN_UNTRUSTED)
        mine.certificates = (UNKNOWN_MAKER.certify(mine.ek, now_s=made.now_s),)
        assert made.enrol(mine).state == "trusted"
