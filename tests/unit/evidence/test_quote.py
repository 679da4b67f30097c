"""A quote, step by step, as docs/protocol.md numbers them: each refused for its own reason, and never for a later one."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest

import tpm_structures as tpm
from attestd.errors import Refused
from attestd.evidence.ak import check_attestation_key
from attestd.evidence.quote import (
    SELECT_SIZE,
    AuthenticQuote,
    Progress,
    Selection,
    authenticate_quote,
    check_pcr_values,
    check_progress,
)
from attestd.protocol.messages import PcrValue, SignedAttest
from attestd.protocol.reasons import Reason
from attestd.tpm.public import Public

PCRS = tuple(range(10))
SELECTION = Selection("sha256", PCRS)
BOUND = hashlib.sha256(b"binding").digest()
KEY = tpm.ecc_key()
VALUES = {index: bytes([index]) * 32 for index in range(24)}


def public() -> Public:
    return check_attestation_key(tpm.sized(tpm.ecc_area(KEY)))


def pcr_digest(pcrs: tuple[int, ...] = PCRS, name: str = "sha256") -> bytes:
    return hashlib.new(name, b"".join(VALUES[index] for index in pcrs)).digest()


def attest(banks: Any = ((tpm.SHA256_ID, PCRS),), **fields: Any) -> bytes:
    return tpm.quote(banks, **{"digest": pcr_digest(), "nonce": BOUND, **fields})


def signed(message: bytes) -> SignedAttest:
    return SignedAttest(message, tpm.ecdsa_signature(KEY, message))


def authentic(quote: SignedAttest | None = None, **fields: Any) -> AuthenticQuote:
    return authenticate_quote(public(), quote or signed(attest(**fields)), qualifying_data=BOUND, selection=SELECTION)


def refusal(quote: SignedAttest | bytes) -> Reason:
    with pytest.raises(Refused) as refused:
        authentic(signed(quote) if isinstance(quote, bytes) else quote)
    return refused.value.reason


def sent(pcrs: tuple[int, ...] = PCRS) -> list[PcrValue]:
    return [PcrValue(index, VALUES[index]) for index in pcrs]


# --- Steps 1 to 6 -----------------------------------------------------------------------------------------------------------


def test_an_honest_quote_is_authentic_and_says_what_it_says() -> None:
    quote = authentic(clock=77, resets=8, restarts=2, firmware=9)
    assert (quote.pcr_digest, quote.digest_hash) == (pcr_digest(), "sha256")
    assert (quote.clock.clock, quote.clock.reset_count, quote.clock.restart_count) == (77, 8, 2)
    assert quote.statement.firmware_version == 9


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 50, 120])
def test_step_1_bytes_that_end_early_are_malformed(cut: int) -> None:
    assert refusal(attest()[:cut]) is Reason.QUOTE_MALFORMED


def test_step_1_bytes_behind_the_structure_are_malformed() -> None:
    assert refusal(attest() + b"\0") is Reason.QUOTE_MALFORMED


def test_step_1_structure_beyond_the_bound_is_malformed() -> None:
    assert refusal(attest() + bytes(5000)) is Reason.QUOTE_MALFORMED


@pytest.mark.parametrize("magic", [0, 0xFF544346, 0xFFFFFFFF])
def test_step_2_magic(magic: int) -> None:
    assert refusal(attest(magic=magic)) is Reason.QUOTE_MAGIC


@pytest.mark.parametrize("tag", [0x8014, 0x8015, 0x8016, 0x8019, 0x801A, 0x801C, 0x0000, 0x8000])
def test_step_3_type(tag: int) -> None:
    assert refusal(attest()[:4] + tpm.u16(tag) + attest()[6:]) is Reason.QUOTE_TYPE


def test_step_3_certification() -> None:
    assert refusal(tpm.attest_head(0x8017, nonce=BOUND) + tpm.sized(b"name") * 2) is Reason.QUOTE_TYPE


def test_step_4_signature_of_another_key() -> None:
    other = tpm.ecc_key("secp384r1")
    message = attest()
    forged = tpm.ecdsa_octets(1, 1)
    assert refusal(SignedAttest(message, forged)) is Reason.QUOTE_SIGNATURE
    assert refusal(SignedAttest(message, tpm.ecdsa_signature(other, message))) is Reason.QUOTE_SIGNATURE


def test_step_4_signature_by_another_scheme_or_hash() -> None:
    message = attest()
    for signature in (
        tpm.ecdsa_signature(KEY, message, digest=tpm.SHA384_ID),
        tpm.ecdsa_signature(KEY, message, digest=tpm.SHA1_ID),
        tpm.rsa_signature(tpm.rsa_key(), message),
        tpm.u16(tpm.NULL),
        tpm.u16(0x1A) + tpm.u16(tpm.SHA256_ID) + tpm.sized(bytes(32)) * 2,
        tpm.u16(tpm.ECDSA) + tpm.u16(0x27) + tpm.sized(bytes(32)) * 2,
    ):
        assert refusal(SignedAttest(message, signature)) is Reason.QUOTE_SCHEME


def test_step_4_signature_of_no_form() -> None:
    honest = signed(attest())
    for signature in (b"", b"\0", honest.signature[:-1], honest.signature + b"\0"):
        assert refusal(replace(honest, signature=signature)) is Reason.QUOTE_MALFORMED


@pytest.mark.parametrize("nonce", [b"", BOUND[:31], BOUND + b"\0", bytes(32), BOUND[::-1]])
def test_step_5_binding(nonce: bytes) -> None:
    assert refusal(attest(nonce=nonce)) is Reason.QUOTE_BINDING


@pytest.mark.parametrize(
    "banks",
    [
        (),
        ((tpm.SHA256_ID, ()),),
        ((tpm.SHA256_ID, PCRS[:-1]),),
        ((tpm.SHA256_ID, (*PCRS, 10)),),
        ((tpm.SHA256_ID, (*PCRS[:-1], 16)),),
        ((tpm.SHA1_ID, PCRS),),
        ((0x0012, PCRS),),
        ((0x0027, PCRS),),
        ((tpm.SHA256_ID, PCRS), (tpm.SHA256_ID, PCRS)),
        ((tpm.SHA256_ID, PCRS), (tpm.SHA1_ID, PCRS)),
        ((tpm.SHA256_ID, PCRS), (tpm.SHA1_ID, ())),
    ],
)
def test_step_6_selection(banks: Any) -> None:
    assert refusal(attest(banks)) is Reason.QUOTE_SELECTION


@pytest.mark.parametrize("size", [0, 1, 2, 4, 5, 255])
def test_step_6_selection_in_a_bitmap_of_another_size(size: int) -> None:
    bitmap = sum(1 << index for index in PCRS).to_bytes(256, "little")[:size]
    entry = tpm.u32(1) + tpm.u16(tpm.SHA256_ID) + bytes((size,)) + bitmap
    message = tpm.attest_head(0x8018, nonce=BOUND) + entry + tpm.sized(pcr_digest())
    assert size != SELECT_SIZE
    assert refusal(message) is Reason.QUOTE_SELECTION


def test_the_order_of_the_steps_is_that_of_the_document() -> None:
    """A structure that is wrong in every way is refused for the first; repaired from the front, for the next."""
    assert refusal(SignedAttest(b"\0", b"")) is Reason.QUOTE_MALFORMED
    body = tpm.attest_head(0x8019, magic=1, nonce=b"")
    assert refusal(SignedAttest(body, b"")) is Reason.QUOTE_MAGIC
    body = tpm.attest_head(0x8019, nonce=b"")
    assert refusal(SignedAttest(body, b"")) is Reason.QUOTE_TYPE
    quote = tpm.quote((), nonce=b"")
    assert refusal(SignedAttest(quote, tpm.ecdsa_octets(1, 1))) is Reason.QUOTE_SIGNATURE
    assert refusal(quote) is Reason.QUOTE_BINDING
    assert refusal(tpm.quote((), nonce=BOUND)) is Reason.QUOTE_SELECTION


def test_q10_every_flipped_bit_of_a_quote_is_refused() -> None:
    honest = signed(attest())
    authentic(honest)
    reasons = set()
    for bit in range(len(honest.attest) * 8):
        bent = bytearray(honest.attest)
        bent[bit // 8] ^= 1 << bit % 8
        reasons.add(refusal(replace(honest, attest=bytes(bent))))
    assert reasons == {
        Reason.QUOTE_MALFORMED,
        Reason.QUOTE_MAGIC,
        Reason.QUOTE_TYPE,
        Reason.QUOTE_SIGNATURE,
        Reason.QUOTE_SELECTION,
    }


def test_q10_every_flipped_bit_of_a_signature_is_refused() -> None:
    honest = signed(attest())
    for bit in range(len(honest.signature) * 8):
        bent = bytearray(honest.signature)
        bent[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Refused):
            authentic(replace(honest, signature=bytes(bent)))


# --- Steps 7 to 9 -------------------------------------------------------------------------------------------------------------


def values_refusal(values: list[PcrValue], quote: AuthenticQuote | None = None) -> Reason:
    with pytest.raises(Refused) as refused:
        check_pcr_values(quote or authentic(), values, SELECTION)
    return refused.value.reason


def test_the_quoted_values_are_returned_in_their_order() -> None:
    assert check_pcr_values(authentic(), sent(), SELECTION) == tuple((index, VALUES[index]) for index in PCRS)


@pytest.mark.parametrize(
    "pcrs", [(), PCRS[:-1], PCRS[1:], (*PCRS, 10), (*PCRS, 9), PCRS[::-1], (0, 0, *PCRS[1:]), tuple(range(24))]
)
def test_step_7_other_registers_than_the_quoted_ones(pcrs: tuple[int, ...]) -> None:
    assert values_refusal(sent(pcrs)) is Reason.PCR_VALUES_MALFORMED


@pytest.mark.parametrize("size", [0, 20, 31, 33, 48, 64])
def test_step_7_value_of_another_length(size: int) -> None:
    assert values_refusal([PcrValue(0, bytes(size)), *sent()[1:]]) is Reason.PCR_VALUES_MALFORMED


def test_q10_step_8_every_flipped_bit_of_a_register_is_refused() -> None:
    quote = authentic()
    for bit in range(32 * 8):
        bent = bytearray(VALUES[4])
        bent[bit // 8] ^= 1 << bit % 8
        values = [PcrValue(4, bytes(bent)) if one.index == 4 else one for one in sent()]
        assert values_refusal(values, quote) is Reason.QUOTE_PCR_DIGEST


def test_step_8_digest_is_by_the_hash_of_the_signing_scheme() -> None:
    """TPM 2.0 Part 3, 18.4: a key that signs with SHA-384 makes a PCR digest of 48 bytes over a SHA-256 bank."""
    key = tpm.ecc_key("secp384r1")
    area = check_attestation_key(tpm.sized(tpm.ecc_area(key, scheme_hash=tpm.SHA384_ID)))
    message = attest(digest=pcr_digest(name="sha384"))
    quote = SignedAttest(message, tpm.ecdsa_signature(key, message, digest=tpm.SHA384_ID))
    proved = authenticate_quote(area, quote, qualifying_data=BOUND, selection=SELECTION)
    assert check_pcr_values(proved, sent(), SELECTION)
    short = attest(digest=pcr_digest())
    quote = SignedAttest(short, tpm.ecdsa_signature(key, short, digest=tpm.SHA384_ID))
    proved = authenticate_quote(area, quote, qualifying_data=BOUND, selection=SELECTION)
    assert values_refusal(sent(), proved) is Reason.QUOTE_PCR_DIGEST


@pytest.mark.parametrize("alive", [(), (8,), (8, 9)])
def test_step_9_bank_that_firmware_never_extended(alive: tuple[int, ...]) -> None:
    values = [PcrValue(index, VALUES[index] if index in alive else bytes(32)) for index in PCRS]
    digest = hashlib.sha256(b"".join(one.value for one in values)).digest()
    assert values_refusal(values, authentic(digest=digest)) is Reason.PCR_BANK_INACTIVE


@pytest.mark.parametrize("alive", [0, 4, 7])
def test_step_9_one_register_of_the_firmware_is_enough(alive: int) -> None:
    values = [PcrValue(index, b"\1" * 32 if index == alive else bytes(32)) for index in PCRS]
    digest = hashlib.sha256(b"".join(one.value for one in values)).digest()
    assert check_pcr_values(authentic(digest=digest), values, SELECTION)


def test_step_9_selection_without_a_register_of_the_firmware_proves_no_bank() -> None:
    selection = Selection("sha256", (10, 14))
    message = attest(((tpm.SHA256_ID, (10, 14)),), digest=pcr_digest((10, 14)))
    quote = authenticate_quote(public(), signed(message), qualifying_data=BOUND, selection=selection)
    with pytest.raises(Refused) as refused:
        check_pcr_values(quote, sent((10, 14)), selection)
    assert refused.value.reason is Reason.PCR_BANK_INACTIVE


# --- Step 10 ------------------------------------------------------------------------------------------------------------------

LAST = Progress(reset_count=5, restart_count=3, clock=1000)


def progress(*, rebooted: bool = False, last: Progress | None = LAST, **now: int) -> Reason | None:
    quote = authentic(**{"resets": 5, "restarts": 3, "clock": 1001, **now})
    try:
        check_progress(last, quote, rebooted=rebooted)
    except Refused as refused:
        return refused.reason
    return None


@pytest.mark.parametrize("rebooted", [False, True])
@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ({}, None),
        ({"clock": 10**9}, None),
        ({"restarts": 4}, None),
        ({"safe": 0}, None),
        ({"restarts": 4, "safe": 0}, None),
        ({"clock": 1000}, Reason.REPLAYED),
        ({"clock": 1000, "restarts": 4}, Reason.REPLAYED),
        ({"clock": 999}, Reason.TPM_CLOCK_BACKWARDS),
        ({"clock": 999, "safe": 0}, Reason.TPM_CLOCK_BACKWARDS),
        ({"clock": 999, "restarts": 2}, Reason.TPM_CLOCK_BACKWARDS),
        ({"clock": 0, "restarts": 4}, Reason.TPM_DIVERGED),
        ({"restarts": 2}, Reason.TPM_DIVERGED),
        ({"clock": 1000, "restarts": 2}, Reason.REPLAYED),
        ({"resets": 4, "clock": 1000}, Reason.TPM_RESET_BACKWARDS),
        ({"resets": 4, "clock": 999, "restarts": 9}, Reason.TPM_RESET_BACKWARDS),
        ({"resets": 4}, Reason.TPM_DIVERGED),
        ({"resets": 4, "clock": 10**9}, Reason.TPM_DIVERGED),
        ({"resets": 0, "restarts": 0, "clock": 1}, Reason.TPM_RESET_BACKWARDS),
    ],
)
def test_step_10_within_one_boot(now: dict[str, int], reason: Reason | None, rebooted: bool) -> None:
    assert progress(rebooted=rebooted, **now) is reason


@pytest.mark.parametrize("now", [{"clock": 1001}, {"clock": 500, "safe": 0}, {"restarts": 0}, {"clock": 1000}])
@pytest.mark.parametrize("resets", [6, 60])
def test_step_10_after_a_reset_it_counts_that_it_was_announced(resets: int, now: dict[str, int]) -> None:
    assert progress(resets=resets, rebooted=True, **now) is None
    assert progress(resets=resets, rebooted=False, **now) is Reason.TPM_RESET_UNANNOUNCED


def test_step_10_first_proof_of_all_has_nothing_to_be_compared_with() -> None:
    assert progress(last=None, clock=0, resets=0, restarts=0) is None
