import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384

import tpm_structures as made
from activation import WrongCredential, activate
from attestd.tpm.credential import kdfa, make_credential
from attestd.tpm.errors import Malformed
from attestd.tpm.public import parse_public_area
from tpm_structures import NULL, SHA1_ID, SHA256_ID, SHA384_ID, u16

NAME = u16(SHA256_ID) + b"\x42" * 32
SECRET = b"the secret of this enrolment, 32"
SEED = b"\x5e" * 32

KEYS = [
    pytest.param(made.rsa_key, SHA256_ID, 128, id="rsa2048"),
    pytest.param(lambda: made.rsa_key(3072), SHA384_ID, 256, id="rsa3072"),
    pytest.param(lambda: made.rsa_key(4096), SHA384_ID, 256, id="rsa4096"),
    pytest.param(made.ecc_key, SHA256_ID, 128, id="p256"),
    pytest.param(lambda: made.ecc_key("secp384r1"), SHA384_ID, 256, id="p384"),
    pytest.param(lambda: made.ecc_key("secp384r1"), SHA256_ID, 128, id="p384-sha256"),
]
DIGESTS = {SHA256_ID: SHA256(), SHA384_ID: SHA384()}


def ek(key=None, **options):
    return parse_public_area(made.ek_area(key or made.ecc_key(), **options))


@pytest.mark.parametrize(("key", "name_algorithm", "bits"), KEYS)
def test_the_tpm_that_holds_the_key_opens_the_credential(key, name_algorithm, bits):
    digest = DIGESTS[name_algorithm]
    public = ek(key(), bits=bits, name_algorithm=name_algorithm)

    blob, secret = make_credential(public, NAME, SECRET, seed=b"s" * digest.digest_size)

    assert activate(key(), NAME, blob, secret, digest=digest, aes_bits=bits) == SECRET


@pytest.mark.parametrize("key", [made.rsa_key, made.ecc_key])
def test_k03_a_credential_for_another_name_does_not_open(key):
    blob, secret = make_credential(ek(key()), NAME, SECRET, seed=SEED)

    with pytest.raises(WrongCredential):
        activate(key(), NAME[:-1] + b"\x43", blob, secret, digest=SHA256(), aes_bits=128)


def test_k04_another_tpm_does_not_open_the_credential():
    blob, secret = make_credential(ek(made.ecc_key()), NAME, SECRET, seed=SEED)

    with pytest.raises(WrongCredential):
        activate(ec.generate_private_key(ec.SECP256R1()), NAME, blob, secret, digest=SHA256(), aes_bits=128)


@pytest.mark.parametrize("position", [2, 40, -1])
def test_k07_a_changed_credential_does_not_open(position):
    blob, secret = make_credential(ek(), NAME, SECRET, seed=SEED)
    changed = bytearray(blob)
    changed[position] ^= 1

    with pytest.raises((WrongCredential, AssertionError)):
        activate(made.ecc_key(), NAME, bytes(changed), secret, digest=SHA256(), aes_bits=128)


def test_two_credentials_of_one_secret_differ():
    first, _ = make_credential(ek(), NAME, SECRET, seed=SEED)
    second, _ = make_credential(ek(), NAME, SECRET, seed=SEED)

    assert first != second


def test_a_given_ephemeral_key_makes_the_credential_repeatable():
    ephemeral = ec.derive_private_key(12345, ec.SECP256R1())

    assert make_credential(ek(), NAME, SECRET, seed=SEED, ephemeral=ephemeral) == make_credential(
        ek(), NAME, SECRET, seed=SEED, ephemeral=ephemeral
    )


def test_an_ephemeral_key_on_another_curve_is_refused():
    with pytest.raises(ValueError, match="another curve"):
        make_credential(ek(), NAME, SECRET, seed=SEED, ephemeral=made.ecc_key("secp384r1"))


def test_k01_an_attestation_key_is_no_endorsement_key():
    with pytest.raises(Malformed) as caught:
        make_credential(parse_public_area(made.ecc_area(made.ecc_key())), NAME, SECRET, seed=SEED)

    assert caught.value.code == "credential-key"


@pytest.mark.parametrize(
    "options",
    [
        {"attributes": made.EK_ATTRIBUTES | 1 << 18},
        {"attributes": made.EK_ATTRIBUTES & ~(1 << 16)},
        {"symmetric": u16(NULL)},
        {"symmetric": u16(0x0006) + u16(128) + u16(0x0042)},
        {"name_algorithm": SHA1_ID},
    ],
)
def test_a_key_that_does_not_protect_credentials_is_refused(options):
    settings = {"attributes": made.EK_ATTRIBUTES, "scheme": NULL, "symmetric": made.aes_cfb(128)} | options

    with pytest.raises(Malformed) as caught:
        make_credential(parse_public_area(made.rsa_area(made.rsa_key(), **settings)), NAME, SECRET, seed=SEED)

    assert caught.value.code == "credential-key"


@pytest.mark.parametrize("secret", [b"", b"s" * 33])
def test_a_secret_that_does_not_fit_the_digest_is_refused(secret):
    with pytest.raises(ValueError, match="secret"):
        make_credential(ek(), NAME, secret, seed=SEED)


@pytest.mark.parametrize("seed", [b"", b"s" * 31, b"s" * 33])
def test_a_seed_of_another_size_is_refused(seed):
    with pytest.raises(ValueError, match="seed"):
        make_credential(ek(), NAME, SECRET, seed=seed)


@pytest.mark.parametrize("name", [b"", b"\x00", NAME[:-1], NAME + b"\0", u16(0x0027) + bytes(32)])
def test_k03_what_is_no_name_is_refused(name):
    with pytest.raises(ValueError, match="name"):
        make_credential(ek(), name, SECRET, seed=SEED)


def test_a_point_off_the_curve_gets_no_credential():
    area = bytearray(made.ek_area(made.ecc_key()))
    area[-1] ^= 1

    with pytest.raises(Malformed) as caught:
        make_credential(parse_public_area(bytes(area)), NAME, SECRET, seed=SEED)

    assert caught.value.code == "public-point"


def test_key_material_longer_than_one_digest_continues_with_the_next_counter():
    short = kdfa("sha256", b"key", b"LABEL", bits=512)

    assert len(short) == 64
    assert short[:32] != short[32:]
