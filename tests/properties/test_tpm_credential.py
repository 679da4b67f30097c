"""Any secret for any name: the right TPM opens it, and no other name does."""

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from hypothesis import given, settings
from hypothesis import strategies as st

import tpm_structures as made
from activation import WrongCredential, activate
from attestd.tpm.credential import make_credential
from attestd.tpm.public import parse_public_area
from tpm_structures import SHA256_ID, SHA384_ID, u16

NAMES = st.one_of(
    st.binary(min_size=32, max_size=32).map(lambda digest: u16(SHA256_ID) + digest),
    st.binary(min_size=48, max_size=48).map(lambda digest: u16(SHA384_ID) + digest),
)
SECRETS = st.binary(min_size=1, max_size=32)


@given(name=NAMES, secret=SECRETS, seed=st.binary(min_size=32, max_size=32))
@settings(max_examples=20, deadline=None)
def test_an_rsa_key_opens_what_was_made_for_it(name, secret, seed):
    key = made.rsa_key()

    blob, encrypted = make_credential(parse_public_area(made.ek_area(key)), name, secret, seed=seed)

    assert activate(key, name, blob, encrypted, digest=SHA256(), aes_bits=128) == secret


@given(name=NAMES, secret=SECRETS, scalar=st.integers(1, 2**255))
@settings(max_examples=40, deadline=None)
def test_an_ecc_key_opens_what_was_made_for_it(name, secret, scalar):
    key = made.ecc_key()
    public = parse_public_area(made.ek_area(key))
    ephemeral = ec.derive_private_key(scalar, ec.SECP256R1())

    blob, encrypted = make_credential(public, name, secret, seed=bytes(32), ephemeral=ephemeral)

    assert activate(key, name, blob, encrypted, digest=SHA256(), aes_bits=128) == secret


@given(scalar=st.integers(1, 2**255))
@settings(max_examples=40, deadline=None)
def test_a_key_whose_coordinates_start_with_zeros_opens_too(scalar):
    key = ec.derive_private_key(scalar, ec.SECP384R1())
    public = parse_public_area(made.ek_area(key, bits=256, name_algorithm=SHA384_ID))
    name = u16(SHA384_ID) + bytes(48)

    blob, encrypted = make_credential(public, name, b"secret", seed=bytes(48))

    assert activate(key, name, blob, encrypted, digest=SHA384(), aes_bits=256) == b"secret"


@given(names=st.lists(NAMES, min_size=2, max_size=2, unique=True), secret=SECRETS)
@settings(max_examples=40, deadline=None)
def test_k03_no_other_name_opens_a_credential(names, secret):
    key = made.ecc_key()
    blob, encrypted = make_credential(parse_public_area(made.ek_area(key)), names[0], secret, seed=bytes(32))

    try:
        activate(key, names[1], blob, encrypted, digest=SHA256(), aes_bits=128)
    except WrongCredential:
        opened = False
    else:
        opened = True

    assert not opened
