"""Q08: signatures by another scheme, hash, curve or size than the attestation key pins, and numbers out of range.

RSA keys cost a tenth of a second each, so each kind is made once.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

import tpm_structures as tpm
from attestd.protocol.messages import SignedAttest
from attestd.protocol.reasons import Reason
from attestd.tpm.algorithms import CURVE_ORDERS
from exchanges import Enrolment, Exchange, refused
from softchip import PCRS, SoftChip
from world import World

N = CURVE_ORDERS["P-256"]
ChipFactory = Callable[..., SoftChip]


@cache
def cubic_key() -> rsa.RSAPrivateKey:
    """An RSA key with exponent 3: whoever checks the padding loosely can be fooled by a cube root."""
    return rsa.generate_private_key(public_exponent=3, key_size=2048)


def ak_chip(
    chip: ChipFactory, key: Any, *, scheme: int | None = None, digest: int = tpm.SHA256_ID, **area: Any
) -> SoftChip:
    """Return a device whose attestation key pins this scheme and hash, and which signs accordingly."""
    made = chip(ak=key)
    if isinstance(key, rsa.RSAPrivateKey):
        scheme = scheme or tpm.RSASSA
        # One RSA key serves many devices here; their policies make them keys of different names.
        made.ak_area = tpm.rsa_area(key, scheme=scheme, scheme_hash=digest, policy=os.urandom(32), **area)
        made.sign = lambda message, other=None: tpm.rsa_signature(other or key, message, scheme=scheme, digest=digest)  # type: ignore[method-assign]
    else:
        made.ak_area = tpm.ecc_area(key, scheme_hash=digest, **area)
        made.sign = lambda message, other=None: tpm.ecdsa_signature(other or key, message, digest=digest)  # type: ignore[method-assign]
    return made


def quote_by_pinned_hash(enrolment: Enrolment, digest: int) -> SignedAttest:
    """Return a quote whose PCR digest is by the hash of the signing scheme (TPM 2.0 Part 3, 18.4)."""
    name = tpm.HASHES[digest].name
    values = b"".join(enrolment.chip.registers[index] for index in PCRS)
    return enrolment.chip.quote(enrolment.bound(), digest=hashlib.new(name, values).digest())


# --- What is accepted -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("curve", "digest"),
    [(ec.SECP256R1(), tpm.SHA256_ID), (ec.SECP384R1(), tpm.SHA384_ID), (ec.SECP521R1(), tpm.SHA512_ID)],
    ids=["P-256", "P-384", "P-521"],
)
def test_each_curve_with_the_hash_that_its_key_pins_is_accepted(
    world: World, chip: ChipFactory, curve: ec.EllipticCurve, digest: int
) -> None:
    enrolment = Enrolment(world, ak_chip(chip, ec.generate_private_key(curve), digest=digest))
    assert enrolment.send(quote=quote_by_pinned_hash(enrolment, digest)).state == "trusted"


@pytest.mark.parametrize("scheme", [tpm.RSASSA, tpm.RSAPSS], ids=["RSASSA", "RSAPSS"])
def test_each_rsa_scheme_that_a_key_pins_is_accepted(world: World, chip: ChipFactory, scheme: int) -> None:
    assert world.enrol(ak_chip(chip, tpm.rsa_key(), scheme=scheme)).state == "trusted"


# --- Another scheme or hash than the key pins -------------------------------------------------------------------------------


@pytest.mark.parametrize("digest", [tpm.SHA1_ID, tpm.SHA384_ID, tpm.SHA512_ID])
def test_q08_valid_signature_by_another_hash_is_refused(exchange: Exchange, digest: int) -> None:
    honest = exchange.chip.quote(exchange.bound())
    other = tpm.ecdsa_signature(exchange.chip.ak, honest.attest, digest=digest)
    exchange.refuse(Reason.QUOTE_SCHEME, quote=replace(honest, signature=other))
    assert exchange.send(quote=honest).state == "trusted"


@pytest.mark.parametrize(
    ("pinned", "used", "digest"),
    [
        (tpm.RSASSA, tpm.RSAPSS, tpm.SHA256_ID),
        (tpm.RSAPSS, tpm.RSASSA, tpm.SHA256_ID),
        (tpm.RSASSA, tpm.RSASSA, tpm.SHA1_ID),
        (tpm.RSASSA, tpm.RSASSA, tpm.SHA512_ID),
    ],
)
def test_q08_valid_signature_by_another_rsa_scheme_is_refused(
    world: World, chip: ChipFactory, pinned: int, used: int, digest: int
) -> None:
    enrolment = Enrolment(world, ak_chip(chip, tpm.rsa_key(), scheme=pinned))
    honest = enrolment.chip.quote(enrolment.bound())
    other = tpm.rsa_signature(tpm.rsa_key(), honest.attest, scheme=used, digest=digest)
    enrolment.refuse(Reason.QUOTE_SCHEME, quote=replace(honest, signature=other))
    assert enrolment.send(quote=honest).state == "trusted"


def test_q08_valid_signature_of_another_kind_of_key_is_refused(exchange: Exchange) -> None:
    honest = exchange.chip.quote(exchange.bound())
    by_rsa = tpm.rsa_signature(tpm.rsa_key(), honest.attest)
    exchange.refuse(Reason.QUOTE_SCHEME, quote=replace(honest, signature=by_rsa))
    assert exchange.send(quote=honest).state == "trusted"


def test_q08_valid_signature_by_another_key_of_the_same_kind_is_refused(exchange: Exchange) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    exchange.refuse(Reason.QUOTE_SIGNATURE, quote=exchange.chip.quote(exchange.bound(), key=stranger))
    exchange.refuse(Reason.QUOTE_SIGNATURE, quote=exchange.chip.quote(exchange.bound(), key=exchange.chip.device_key))
    assert exchange.send().state == "trusted"


@pytest.mark.parametrize("scheme", [0x0000, 0x0005, 0x0010, 0x0015, 0x001A, 0x001B, 0x001C, 0xFFFF])
def test_q08_scheme_that_is_null_or_unknown_is_refused(exchange: Exchange, scheme: int) -> None:
    honest = exchange.chip.quote(exchange.bound())
    exchange.refuse(Reason.QUOTE_SCHEME, quote=replace(honest, signature=tpm.u16(scheme) + honest.signature[2:]))
    assert exchange.send(quote=honest).state == "trusted"


@pytest.mark.parametrize("digest", [0x0000, 0x0010, 0x0027, 0xFFFF])
def test_q08_hash_that_is_null_or_unknown_is_refused(exchange: Exchange, digest: int) -> None:
    honest = exchange.chip.quote(exchange.bound())
    bent = honest.signature[:2] + tpm.u16(digest) + honest.signature[4:]
    exchange.refuse(Reason.QUOTE_SCHEME, quote=replace(honest, signature=bent))
    assert exchange.send(quote=honest).state == "trusted"


@pytest.mark.parametrize("curve", [0x0000, 0x0001, 0x0002, 0x0010, 0x0020, 0xFFFF])
def test_q08_key_on_an_unknown_curve_is_refused_and_never_skipped(world: World, chip: ChipFactory, curve: int) -> None:
    made = chip()
    honest = made.ak_area
    made.ak_area = honest.replace(tpm.u16(3) + tpm.u16(tpm.NULL), tpm.u16(curve) + tpm.u16(tpm.NULL))
    assert made.ak_area != honest
    refused(world, lambda: world.begin(made.request()), Reason.AK_MALFORMED)
    made.ak_area = honest
    assert world.enrol(made).state == "trusted"


def test_q08_key_that_pins_no_accepted_scheme_is_refused(world: World, chip: ChipFactory) -> None:
    made = chip()
    honest = made.ak_area
    ecdaa = honest.replace(tpm.u16(0x18) + tpm.u16(0x0B), tpm.u16(0x1A) + tpm.u16(0x0B) + tpm.u16(1))
    areas = (
        tpm.ecc_area(made.ak, scheme=tpm.NULL),
        tpm.ecc_area(made.ak, scheme_hash=tpm.SHA1_ID),
        tpm.ecc_area(made.ak, scheme=0x1B),
        ecdaa,
        tpm.rsa_area(tpm.rsa_key(), scheme=tpm.NULL),
        tpm.rsa_area(tpm.rsa_key(), scheme=0x17),
        tpm.rsa_area(tpm.rsa_key(), scheme_hash=tpm.SHA1_ID),
    )
    for area in areas:
        made.ak_area = area
        refused(world, lambda: world.begin(made.request()), Reason.AK_SCHEME)
    made.ak_area = honest
    assert world.enrol(made).state == "trusted"


# --- Sizes and numbers ------------------------------------------------------------------------------------------------------


def numbers_of(exchange: Exchange, attest: bytes) -> tuple[int, int]:
    return decode_dss_signature(exchange.chip.ak.sign(attest, ec.ECDSA(SHA256())))


def test_q08_numbers_out_of_range_are_refused(exchange: Exchange) -> None:
    honest = exchange.chip.quote(exchange.bound())
    r, s = numbers_of(exchange, honest.attest)
    for pair in ((0, s), (r, 0), (0, 0), (N, s), (r, N), (r + N, s), (r, s + N), (1, 1), (N - 1, N - 1), (s, r)):
        bent = tpm.ecdsa_octets(*pair, size=33)
        exchange.refuse(Reason.QUOTE_SIGNATURE, quote=replace(honest, signature=bent))
    assert exchange.send(quote=replace(honest, signature=tpm.ecdsa_octets(r, s))).state == "trusted"


def test_q08_numbers_of_impossible_size_are_refused(exchange: Exchange) -> None:
    honest = exchange.chip.quote(exchange.bound())
    r, s = numbers_of(exchange, honest.attest)
    head, first, second = honest.signature[:4], r.to_bytes(67, "big"), s.to_bytes(67, "big")
    for one, two in ((b"", second[-32:]), (first[-32:], b""), (first, second[-32:]), (first[-32:], second)):
        bent = head + tpm.sized(one) + tpm.sized(two)
        exchange.refuse(Reason.QUOTE_MALFORMED, quote=replace(honest, signature=bent))
    assert exchange.send(quote=honest).state == "trusted"


def test_q08_signature_that_is_short_long_or_der_is_refused(exchange: Exchange) -> None:
    honest = exchange.chip.quote(exchange.bound())
    der = exchange.chip.ak.sign(honest.attest, ec.ECDSA(SHA256()))
    whole = honest.signature
    for bent in (whole[:-1], whole[:4], whole[:3], whole + b"\0", whole + whole, whole[:4] + tpm.sized(der)):
        exchange.refuse(Reason.QUOTE_MALFORMED, quote=replace(honest, signature=bent))
    exchange.refuse(Reason.QUOTE_SIGNATURE, quote=replace(honest, signature=whole[:4] + (tpm.sized(bytes(32)) * 2)))
    exchange.refuse(Reason.QUOTE_SCHEME, quote=replace(honest, signature=der))
    assert exchange.send(quote=honest).state == "trusted"


def test_q08_rsa_signature_of_another_length_is_refused(world: World, chip: ChipFactory) -> None:
    enrolment = Enrolment(world, ak_chip(chip, tpm.rsa_key()))
    honest = enrolment.chip.quote(enrolment.bound())
    head, octets = honest.signature[:4], honest.signature[6:]
    for size in (0, 1, 20, 255, 257, 512 + 1):
        bent = head + tpm.sized(octets.rjust(size, b"\0")[:size])
        enrolment.refuse(Reason.QUOTE_MALFORMED, quote=replace(honest, signature=bent))
    for forged in (octets.rjust(384, b"\0"), octets.ljust(512, b"\0"), bytes(256), b"\xff" * 256, modulus(enrolment)):
        enrolment.refuse(Reason.QUOTE_SIGNATURE, quote=replace(honest, signature=head + tpm.sized(forged)))
    assert enrolment.send(quote=honest).state == "trusted"


def modulus(enrolment: Enrolment) -> bytes:
    return bytes(enrolment.chip.ak.public_key().public_numbers().n.to_bytes(256, "big"))


def test_q08_rsa_padding_with_garbage_behind_the_digest_is_refused(world: World, chip: ChipFactory) -> None:
    """The forgery of 2006: with exponent 3, a cube root whose first bytes look like a signature needs no private key."""
    enrolment = Enrolment(world, ak_chip(chip, cubic_key(), exponent=3))
    honest = enrolment.chip.quote(enrolment.bound())
    forged = cube_root_signature(honest.attest)
    looks_like = pow(int.from_bytes(forged, "big"), 3).to_bytes(256, "big")
    assert looks_like.startswith(padded_digest(honest.attest))
    bent = honest.signature[:4] + tpm.sized(forged)
    enrolment.refuse(Reason.QUOTE_SIGNATURE, quote=replace(honest, signature=bent))
    assert enrolment.send(quote=honest).state == "trusted"


def padded_digest(message: bytes) -> bytes:
    """Return the start of a PKCS#1 v1.5 encoding with eight bytes of padding: 00 01 FF…FF 00, algorithm, digest."""
    info = bytes.fromhex("3031300d060960864801650304020105000420")
    return b"\x00\x01" + b"\xff" * 8 + b"\x00" + info + hashlib.sha256(message).digest()


def cube_root_signature(message: bytes) -> bytes:
    """Return a number whose cube begins like the padded digest; what follows is garbage."""
    wanted = int.from_bytes(padded_digest(message).ljust(256, b"\xff"), "big")
    low, high = 0, 1 << 700
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**3 <= wanted else (low, middle - 1)
    return low.to_bytes(256, "big")


def test_q08_certification_by_another_scheme_is_refused(enrolment: Enrolment) -> None:
    honest = enrolment.chip.certify(enrolment.certify_bound())
    other = tpm.ecdsa_signature(enrolment.chip.ak, honest.attest, digest=tpm.SHA384_ID)
    for signature in (other, tpm.rsa_signature(tpm.rsa_key(), honest.attest), tpm.u16(tpm.NULL)):
        enrolment.refuse(Reason.DEVICE_KEY_NOT_CERTIFIED, certify=replace(honest, signature=signature))
    assert enrolment.send(certify=honest).state == "trusted"
