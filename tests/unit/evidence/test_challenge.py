"""Challenges that authenticate themselves: what a nonce is good for, until when, and that no other is accepted."""

import pytest

from attestd.errors import Refused
from attestd.evidence.challenge import NONCE_BYTES, RANDOM_BYTES, Challenger, issued_at
from attestd.protocol import limits
from attestd.protocol.reasons import Reason

NOW = 1_795_350_000_000
CHALLENGER = Challenger("attestd", bytes(range(32)))
OTHER_KEY = Challenger("attestd", bytes(range(1, 33)))
DIGEST, OTHER = bytes(range(32)), bytes(32)
RANDOM = bytes(range(100, 116))


def enrol_nonce(challenger: Challenger = CHALLENGER, *, random: bytes = RANDOM, expires: int = NOW + 1000) -> bytes:
    return challenger.enrol_nonce(DIGEST, random=random, issued_ms=NOW - 5, expires_ms=expires)


def attest_nonce(device: str = "device", *, expires: int = NOW + 1000) -> bytes:
    return CHALLENGER.attest_nonce(device, random=RANDOM, issued_ms=NOW - 5, expires_ms=expires)


def refusal(nonce: bytes, *, digest: bytes = DIGEST, now: int = NOW, challenger: Challenger = CHALLENGER) -> Reason:
    with pytest.raises(Refused) as refused:
        challenger.check_enrol_nonce(nonce, request_digest=digest, now_ms=now)
    return refused.value.reason


def test_nonce_is_accepted_for_the_request_that_it_was_made_for() -> None:
    CHALLENGER.check_enrol_nonce(enrol_nonce(), request_digest=DIGEST, now_ms=NOW)


def test_nonce_is_accepted_for_the_device_that_it_was_made_for() -> None:
    CHALLENGER.check_attest_nonce(attest_nonce(), device_id="device", now_ms=NOW)


def test_another_process_with_the_same_key_accepts_it() -> None:
    """Replicas share the key, not a memory."""
    Challenger("attestd", CHALLENGER.key).check_enrol_nonce(enrol_nonce(), request_digest=DIGEST, now_ms=NOW)


def test_nonce_has_the_form_that_the_protocol_allows_and_128_random_bits() -> None:
    nonce = enrol_nonce()
    assert limits.MIN_NONCE <= len(nonce) == NONCE_BYTES <= limits.MAX_NONCE
    assert nonce[:RANDOM_BYTES] == RANDOM
    assert RANDOM_BYTES * 8 >= 128


@pytest.mark.parametrize("nonce", [enrol_nonce(), attest_nonce()])
def test_nonce_says_when_it_was_issued(nonce: bytes) -> None:
    assert issued_at(nonce) == NOW - 5


@pytest.mark.parametrize("other", [b"", bytes(40), bytes(49)])
def test_what_is_no_nonce_was_issued_before_all_time(other: bytes) -> None:
    assert issued_at(other) == 0


@pytest.mark.parametrize("early", [1, 1000])
def test_nonce_is_good_until_the_millisecond_at_which_it_ends(early: int) -> None:
    CHALLENGER.check_enrol_nonce(enrol_nonce(expires=NOW + early), request_digest=DIGEST, now_ms=NOW)


@pytest.mark.parametrize("late", [0, 1, 10**9])
def test_q06_nonce_is_refused_from_the_millisecond_at_which_it_ends(late: int) -> None:
    assert refusal(enrol_nonce(expires=NOW), now=NOW + late) is Reason.NONCE_EXPIRED


def test_q06_nonce_of_another_request_is_refused() -> None:
    assert refusal(enrol_nonce(), digest=OTHER) is Reason.NONCE_INVALID


def test_q06_nonce_of_another_device_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        CHALLENGER.check_attest_nonce(attest_nonce("device"), device_id="devicf", now_ms=NOW)
    assert refused.value.reason is Reason.NONCE_INVALID


def test_q06_nonce_of_a_challenger_with_another_key_is_refused() -> None:
    assert refusal(enrol_nonce(OTHER_KEY)) is Reason.NONCE_INVALID


def test_q06_nonce_for_an_enrolment_is_none_for_a_proof_even_where_the_scope_is_spelled_alike() -> None:
    nonce = CHALLENGER.enrol_nonce(b"device", random=RANDOM, issued_ms=NOW, expires_ms=NOW + 1000)
    with pytest.raises(Refused) as refused:
        CHALLENGER.check_attest_nonce(nonce, device_id="device", now_ms=NOW)
    assert refused.value.reason is Reason.NONCE_INVALID


def test_q06_border_between_scope_and_nonce_cannot_be_moved() -> None:
    """What is sealed is a concatenation: a longer device id must not eat into the random part."""
    nonce = CHALLENGER.attest_nonce("device", random=b"x" + RANDOM[1:], issued_ms=NOW, expires_ms=NOW + 1000)
    with pytest.raises(Refused) as refused:
        CHALLENGER.check_attest_nonce(nonce[1:] + b"\0", device_id="devicex", now_ms=NOW)
    assert refused.value.reason is Reason.NONCE_INVALID


@pytest.mark.parametrize("bit", range(NONCE_BYTES * 8))
def test_q06_nonce_with_one_flipped_bit_is_refused(bit: int) -> None:
    nonce = bytearray(enrol_nonce())
    nonce[bit // 8] ^= 1 << bit % 8
    assert refusal(bytes(nonce)) is Reason.NONCE_INVALID


@pytest.mark.parametrize("size", [0, 1, 16, 24, 39, 41, 64])
def test_q06_nonce_of_another_length_is_refused(size: int) -> None:
    assert refusal((enrol_nonce() * 2)[:size]) is Reason.NONCE_INVALID
    assert refusal(bytes(size)) is Reason.NONCE_INVALID


def test_q06_expiry_is_looked_at_after_the_seal_alone() -> None:
    """An expired nonce and a forged one are told apart only for what this challenger made."""
    forged = bytes(16) + NOW.to_bytes(8, "big") + bytes(16)
    assert refusal(forged, now=NOW + 1) is Reason.NONCE_INVALID


def test_nonces_over_other_randomness_differ_in_the_seal_too() -> None:
    one, other = enrol_nonce(), enrol_nonce(random=bytes(16))
    assert one[:16] != other[:16]
    assert one[24:] != other[24:]


def test_k07_activation_secret_is_of_one_nonce_and_one_request() -> None:
    secrets = {
        CHALLENGER.activation_secret(enrol_nonce(), DIGEST),
        CHALLENGER.activation_secret(enrol_nonce(), OTHER),
        CHALLENGER.activation_secret(enrol_nonce(random=bytes(16)), DIGEST),
        OTHER_KEY.activation_secret(enrol_nonce(), DIGEST),
    }
    assert len(secrets) == 4
    assert {len(secret) for secret in secrets} == {32}


def test_k07_activation_secret_is_no_part_of_what_is_sent() -> None:
    nonce = enrol_nonce()
    assert CHALLENGER.activation_secret(nonce, DIGEST)[:16] != nonce[32:]


def test_c06_challenger_does_not_show_its_key() -> None:
    assert repr(CHALLENGER) == "Challenger('attestd')"
    assert CHALLENGER.key.hex() not in repr([CHALLENGER])
