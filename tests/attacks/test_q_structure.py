"""Q01, Q02, Q09, Q10, Q14: bytes that are not a quote by this TPM, in an enrolment and in a routine proof.

The software chip holds real keys and signs whatever it is told, so every structure here carries a valid signature unless the
signature is what is attacked. Each test ends with the honest proof of the same exchange: it passes.
"""

from collections.abc import Callable
from dataclasses import replace

import cbor2
import pytest

import tpm_structures as tpm
from attestd.protocol import codec
from attestd.protocol.messages import PATH_ATTEST, PATH_ENROL_PROOF, Attested, Enrolled, SignedAttest
from attestd.protocol.reasons import Reason
from exchanges import Attestation, Enrolment, Exchange, refused
from softchip import PCRS, SoftChip
from world import World

ATTESTATIONS = {
    "nv": (0x8014, tpm.sized(tpm.name_of(b"index")) + tpm.u16(0) + tpm.sized(b"contents")),
    "command-audit": (0x8015, (7).to_bytes(8, "big") + tpm.u16(tpm.SHA256_ID) + tpm.sized(bytes(32)) * 2),
    "session-audit": (0x8016, b"\x01" + tpm.sized(bytes(32))),
    "certify": (0x8017, tpm.sized(tpm.name_of(b"object")) * 2),
    "time": (0x8019, (9).to_bytes(8, "big") + (1000).to_bytes(8, "big") + bytes(9) + bytes(8)),
    "creation": (0x801A, tpm.sized(tpm.name_of(b"object")) + tpm.sized(bytes(32))),
    "nv-digest": (0x801C, tpm.sized(tpm.name_of(b"index")) + tpm.sized(bytes(32))),
    "a type of the future": (0x80FF, bytes(40)),
}


def signed(chip: SoftChip, attest: bytes) -> SignedAttest:
    return SignedAttest(attest, chip.sign(attest))


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def spread(data: bytes, bits: int) -> list[bytes]:
    """Return `data` with one bit flipped, at evenly spread places that include the first and the last."""
    last = len(data) * 8 - 1
    return [flipped(data, last * step // (bits - 1)) for step in range(bits)]


# --- Q01 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("magic", [0, 0x54504D32, 0xFF544348, 0x00544347, 0x474354FF])
def test_q01_quote_without_the_magic_of_a_tpm_is_refused(exchange: Exchange, magic: int) -> None:
    exchange.refuse(Reason.QUOTE_MAGIC, quote=exchange.chip.quote(exchange.bound(), magic=magic))
    assert exchange.send().state == "trusted"


def test_q01_certification_without_the_magic_of_a_tpm_is_refused(enrolment: Enrolment) -> None:
    forged = enrolment.chip.certify(enrolment.certify_bound(), magic=0x54504D32)
    enrolment.refuse(Reason.DEVICE_KEY_NOT_CERTIFIED, certify=forged)
    assert enrolment.send().state == "trusted"


def test_q01_key_that_would_sign_anything_is_no_attestation_key(world: World, chip: Callable[..., SoftChip]) -> None:
    """Magic and all can be forged by an unrestricted key, so it must not get as far as a quote."""
    forger = chip()
    forger.ak_area = tpm.ecc_area(forger.ak, attributes=tpm.AK_ATTRIBUTES & ~(1 << 16))
    refused(world, lambda: world.begin(forger.request()), Reason.AK_ATTRIBUTES)
    forger.ak_area = tpm.ecc_area(forger.ak)
    assert world.enrol(forger).state == "trusted"


# --- Q02 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ATTESTATIONS)
def test_q02_another_attestation_is_no_quote(exchange: Exchange, kind: str) -> None:
    tag, body = ATTESTATIONS[kind]
    attest = tpm.attest_head(tag, nonce=exchange.bound(), **exchange.chip.head()) + body
    exchange.refuse(Reason.QUOTE_TYPE, quote=signed(exchange.chip, attest))
    assert exchange.send().state == "trusted"


@pytest.mark.parametrize("tag", [0x8014, 0x8019, 0x801A])
def test_q02_body_of_a_quote_under_another_type_is_no_quote(exchange: Exchange, tag: int) -> None:
    honest = exchange.chip.quote(exchange.bound()).attest
    attest = honest[:4] + tpm.u16(tag) + honest[6:]
    exchange.refuse(Reason.QUOTE_TYPE, quote=signed(exchange.chip, attest))
    assert exchange.send().state == "trusted"


def test_q02_certification_of_this_very_enrolment_is_no_quote(enrolment: Enrolment) -> None:
    enrolment.refuse(Reason.QUOTE_TYPE, quote=enrolment.chip.certify(enrolment.bound()))
    assert enrolment.send().state == "trusted"


def test_q02_quote_is_no_certification(enrolment: Enrolment) -> None:
    enrolment.refuse(Reason.DEVICE_KEY_NOT_CERTIFIED, certify=enrolment.chip.quote(enrolment.certify_bound()))
    assert enrolment.send().state == "trusted"


@pytest.mark.parametrize("kind", ["nv", "time", "creation", "nv-digest"])
def test_q02_another_attestation_is_no_certification(enrolment: Enrolment, kind: str) -> None:
    tag, body = ATTESTATIONS[kind]
    attest = tpm.attest_head(tag, nonce=enrolment.certify_bound(), **enrolment.chip.head()) + body
    enrolment.refuse(Reason.DEVICE_KEY_NOT_CERTIFIED, certify=signed(enrolment.chip, attest))
    assert enrolment.send().state == "trusted"


def test_q02_creation_that_names_the_device_key_is_no_certification(enrolment: Enrolment) -> None:
    """TPM2_CertifyCreation says that a key was made here, not that it has these attributes now."""
    name = tpm.name_of(enrolment.chip.device_key_area)
    attest = tpm.attest_head(0x801A, nonce=enrolment.certify_bound(), **enrolment.chip.head()) + tpm.sized(name) * 2
    enrolment.refuse(Reason.DEVICE_KEY_NOT_CERTIFIED, certify=signed(enrolment.chip, attest))
    assert enrolment.send().state == "trusted"


# --- Q09 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [b"\0", b"\0" * 32, b"\xff\x54\x43\x47"])
def test_q09_signed_bytes_behind_the_quote_are_refused(exchange: Exchange, more: bytes) -> None:
    attest = exchange.chip.quote(exchange.bound()).attest + more
    exchange.refuse(Reason.QUOTE_MALFORMED, quote=signed(exchange.chip, attest))
    assert exchange.send().state == "trusted"


def test_q09_unsigned_bytes_behind_the_quote_are_refused(exchange: Exchange) -> None:
    honest = exchange.chip.quote(exchange.bound())
    exchange.refuse(Reason.QUOTE_MALFORMED, quote=replace(honest, attest=honest.attest + b"\0"))
    assert exchange.send().state == "trusted"


def test_q09_two_quotes_in_one_are_refused(exchange: Exchange) -> None:
    attest = exchange.chip.quote(exchange.bound()).attest + exchange.chip.quote(exchange.bound()).attest
    exchange.refuse(Reason.QUOTE_MALFORMED, quote=signed(exchange.chip, attest))
    assert exchange.send().state == "trusted"


def test_q09_quote_that_ends_early_is_refused(exchange: Exchange) -> None:
    honest = exchange.chip.quote(exchange.bound()).attest
    for cut in (6, 20, len(honest) // 2, len(honest) - 1):
        exchange.refuse(Reason.QUOTE_MALFORMED, quote=signed(exchange.chip, honest[:cut]))
    assert exchange.send().state == "trusted"


@pytest.mark.parametrize("size", [1, 2, 4])
def test_q09_same_selection_in_another_encoding_is_refused(exchange: Exchange, size: int) -> None:
    """The key did sign these bytes, and a lenient reader finds the same registers in them (or, cut, fewer)."""
    registers = [index for index in PCRS if index < 8 * size]
    honest = exchange.chip.quote(exchange.bound()).attest
    canonical = tpm.selection([(tpm.SHA256_ID, PCRS)])
    attest = honest.replace(canonical, tpm.selection([(tpm.SHA256_ID, registers)], size=size))
    assert attest != honest
    exchange.refuse(Reason.QUOTE_SELECTION, quote=signed(exchange.chip, attest))
    assert exchange.send().state == "trusted"


def test_q09_signature_of_an_earlier_quote_does_not_fit_a_new_one(exchange: Exchange) -> None:
    earlier, later = exchange.chip.quote(exchange.bound()), exchange.chip.quote(exchange.bound())
    exchange.refuse(Reason.QUOTE_SIGNATURE, quote=SignedAttest(later.attest, earlier.signature))
    assert exchange.send(quote=later).state == "trusted"


@pytest.mark.parametrize("safe", [2, 255])
def test_q09_flag_that_is_neither_yes_nor_no_is_refused(exchange: Exchange, safe: int) -> None:
    exchange.refuse(Reason.QUOTE_MALFORMED, quote=exchange.chip.quote(exchange.bound(), safe=safe))
    assert exchange.send().state == "trusted"


def test_q09_certification_with_bytes_behind_it_is_refused(enrolment: Enrolment) -> None:
    attest = enrolment.chip.certify(enrolment.certify_bound()).attest + b"\0"
    enrolment.refuse(Reason.DEVICE_KEY_NOT_CERTIFIED, certify=signed(enrolment.chip, attest))
    assert enrolment.send().state == "trusted"


# --- Q10 ----------------------------------------------------------------------------------------------------------------

BROKEN_STRUCTURE = {
    Reason.QUOTE_SIGNATURE.value,
    Reason.QUOTE_MALFORMED.value,
    Reason.QUOTE_MAGIC.value,
    Reason.QUOTE_TYPE.value,
    Reason.QUOTE_SCHEME.value,
    Reason.QUOTE_SELECTION.value,
}
"""A flipped bit in a size, a tag or a selection is noticed before the signature; each bit has its reason in the unit tests."""


def test_q10_flipped_bit_in_the_nonce_clock_or_digest_breaks_the_signature(exchange: Exchange) -> None:
    honest = exchange.chip.quote(exchange.bound())
    head = len(honest.attest) - 34 - len(tpm.selection([(tpm.SHA256_ID, PCRS)])) - 8
    for bit in (0, 8 * 31 + 7):
        nonce = flipped(honest.attest, 8 * (8 + 34 + 2) + bit)
        clock = flipped(honest.attest, 8 * (head - 10) + bit % 8)
        digest = flipped(honest.attest, 8 * (len(honest.attest) - 32) + bit)
        for attest in (nonce, clock, digest):
            exchange.refuse(Reason.QUOTE_SIGNATURE, quote=replace(honest, attest=attest))
    assert exchange.send(quote=honest).state == "trusted"


def test_q10_flipped_bit_anywhere_in_the_quote_is_refused(world: World, chip: Callable[..., SoftChip]) -> None:
    routine = Attestation(world, chip())
    honest = routine.chip.quote(routine.bound())
    for attest in spread(honest.attest, 16):
        reason = Reason(refusal_of(routine, replace(honest, attest=attest)))
        assert reason in BROKEN_STRUCTURE
        routine.refuse(reason, quote=replace(honest, attest=attest))
    assert routine.send(quote=honest).state == "trusted"


def test_q10_flipped_bit_in_the_signature_is_refused(exchange: Exchange) -> None:
    honest = exchange.chip.quote(exchange.bound())
    r, s = 8 * 6, 8 * (6 + 32 + 2)
    for bit in (r, r + 255, s, s + 255):
        exchange.refuse(Reason.QUOTE_SIGNATURE, quote=replace(honest, signature=flipped(honest.signature, bit)))
    assert exchange.send(quote=honest).state == "trusted"


def test_q10_flipped_bit_in_the_head_of_the_signature_is_refused(exchange: Exchange) -> None:
    honest = exchange.chip.quote(exchange.bound())
    for bit, reason in ((0, Reason.QUOTE_SCHEME), (8 * 3, Reason.QUOTE_SCHEME), (8 * 5, Reason.QUOTE_MALFORMED)):
        exchange.refuse(reason, quote=replace(honest, signature=flipped(honest.signature, bit)))
    assert exchange.send(quote=honest).state == "trusted"


def test_q10_flipped_bit_in_a_register_is_refused(exchange: Exchange) -> None:
    values = exchange.chip.values()
    for place, bit in ((0, 0), (7, 100), (len(values) - 1, 255)):
        bent = list(values)
        bent[place] = replace(values[place], value=flipped(values[place].value, bit))
        exchange.refuse(Reason.QUOTE_PCR_DIGEST, pcrs=tuple(bent))
    assert exchange.send().state == "trusted"


def test_q10_flipped_bit_in_the_attestation_key_is_another_key(world: World, chip: Callable[..., SoftChip]) -> None:
    """Off the curve, with other attributes, or for another name: three bits, three refusals."""
    honest = chip()
    area = honest.ak_area
    for bit, reason in ((8 * len(area) - 1, Reason.AK_MALFORMED), (8 * 5, Reason.AK_ATTRIBUTES)):
        honest.ak_area = flipped(area, bit)
        refused(world, lambda: world.begin(honest.request()), reason)
    honest.ak_area = area
    assert world.enrol(honest).state == "trusted"


def test_q10_attestation_key_flipped_between_the_messages_is_refused(enrolment: Enrolment) -> None:
    body = enrolment.body.replace(enrolment.chip.ak_area, flipped(enrolment.chip.ak_area, 8 * 7 + 6))
    assert body != enrolment.body
    refused(enrolment.world, lambda: enrolment.send(request=body), Reason.NONCE_INVALID)
    assert enrolment.send().state == "trusted"


def refusal_of(routine: Attestation, quote: SignedAttest) -> str:
    status, _, raw = routine.world.call(
        "POST",
        PATH_ATTEST,
        codec.encode(routine.chip.attest_request(routine.nonce, quote=quote), codec.CBOR),
        {"content-type": codec.CBOR},
    )
    assert status != 200
    return str(codec.json.loads(raw)["code"])


# --- Q14 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attest", [b"", b"\xff"])
def test_q14_empty_quote_is_refused(exchange: Exchange, attest: bytes) -> None:
    quote = SignedAttest(attest, exchange.chip.sign(attest))
    refused(exchange.world, lambda: exchange.send(quote=quote), Reason.MESSAGE_MALFORMED)
    assert exchange.send().state == "trusted"


@pytest.mark.parametrize(("size", "reason"), [(2, Reason.QUOTE_MALFORMED), (100, Reason.QUOTE_MAGIC)])
def test_q14_quote_of_zeros_is_refused(exchange: Exchange, size: int, reason: Reason) -> None:
    exchange.refuse(reason, quote=signed(exchange.chip, bytes(size)))
    assert exchange.send().state == "trusted"


def test_q14_quote_without_a_signature_is_refused(exchange: Exchange) -> None:
    honest = exchange.chip.quote(exchange.bound())
    exchange.refuse(Reason.QUOTE_SCHEME, quote=replace(honest, signature=tpm.u16(tpm.NULL)))
    refused(exchange.world, lambda: exchange.send(quote=replace(honest, signature=b"")), Reason.MESSAGE_MALFORMED)
    assert exchange.send(quote=honest).state == "trusted"


@pytest.mark.parametrize("field", ["quote", "certify", "activations", "pcrs", "event_log"])
def test_q14_enrolment_that_leaves_a_proof_out_is_refused(enrolment: Enrolment, field: str) -> None:
    message = cbor2.loads(codec.encode(enrolment.proof(), codec.CBOR))
    for absent in (lambda: message.pop(field), lambda: message.update({field: None})):
        absent()
        body = cbor2.dumps(message)
        refused(
            enrolment.world,
            lambda body=body: enrolment.world.post(PATH_ENROL_PROOF, body, Enrolled),
            Reason.MESSAGE_MALFORMED,
        )
    assert enrolment.send().state == "trusted"


def test_q14_routine_proof_without_a_quote_is_refused(world: World, chip: Callable[..., SoftChip]) -> None:
    routine = Attestation(world, chip())
    message = cbor2.loads(codec.encode(routine.chip.attest_request(routine.nonce), codec.CBOR))
    for quote in (None, {}, {"attest": b"", "signature": b""}, "no TPM"):
        body = cbor2.dumps(message | {"quote": quote})
        refused(world, lambda body=body: world.post(PATH_ATTEST, body, Attested), Reason.MESSAGE_MALFORMED)
    del message["quote"]
    refused(world, lambda: world.post(PATH_ATTEST, cbor2.dumps(message), Attested), Reason.MESSAGE_MALFORMED)
    assert routine.send().state == "trusted"


@pytest.mark.parametrize("claim", [{"tpm": False}, {"no_tpm": True}, {"simulator": True}])
def test_q14_device_that_says_it_has_no_tpm_is_refused(
    world: World, chip: Callable[..., SoftChip], claim: dict[str, bool]
) -> None:
    routine = Attestation(world, chip())
    message = cbor2.loads(codec.encode(routine.chip.attest_request(routine.nonce), codec.CBOR))
    del message["quote"]
    body = cbor2.dumps(message | claim)
    refused(world, lambda: world.post(PATH_ATTEST, body, Attested), Reason.MESSAGE_MALFORMED)
    assert routine.send().state == "trusted"
