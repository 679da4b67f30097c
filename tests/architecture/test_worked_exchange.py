"""The worked exchange of docs/protocol.md passes every check of the verifier, and one changed byte does not."""

import hashlib
from dataclasses import replace

import pytest

from architecture.worked_exchange import SENT_MS, seed, worked_exchange
from attestd.errors import Refused
from attestd.evidence.ak import check_attestation_key, check_certification, check_device_key
from attestd.evidence.challenge import Challenger
from attestd.evidence.quote import Progress, Selection, authenticate_quote, check_pcr_values, check_progress
from attestd.protocol import codec
from attestd.protocol.reasons import Reason

EXCHANGE = worked_exchange()
SELECTION = Selection(EXCHANGE.challenge.quote.bank, EXCHANGE.challenge.quote.pcrs)


@pytest.mark.parametrize("media_type", [codec.CBOR, codec.JSON])
@pytest.mark.parametrize(
    ("name", "message"), EXCHANGE.by_name(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_message_of_the_example_decodes_to_itself(name: str, message: object, media_type: str) -> None:
    assert codec.decode(type(message), codec.encode(message, media_type), media_type) == message


def test_the_keys_of_the_example_are_accepted() -> None:
    assert check_attestation_key(EXCHANGE.request.ak_public) == EXCHANGE.ak
    assert check_device_key(EXCHANGE.request.device_key) == EXCHANGE.device_key


def test_the_nonce_of_the_example_is_the_challengers_own() -> None:
    digest = hashlib.sha256(EXCHANGE.request_bytes).digest()
    (activation,) = EXCHANGE.proof.activations
    challenger = Challenger("attestd", seed("challenger"))

    challenger.check_enrol_nonce(activation.nonce, request_digest=digest, now_ms=SENT_MS)

    assert challenger.activation_secret(activation.nonce, digest) == activation.secret


def test_the_certification_of_the_example_is_accepted() -> None:
    _certified(EXCHANGE.certify_binding)  # raises where it is not


def test_the_certification_of_the_example_is_bound_to_its_purpose() -> None:
    with pytest.raises(Refused) as refused:
        _certified(EXCHANGE.quote_binding)

    assert refused.value.reason is Reason.DEVICE_KEY_NOT_CERTIFIED


def _certified(binding: bytes) -> None:
    signed = EXCHANGE.proof.certify
    check_certification(
        EXCHANGE.ak,
        EXCHANGE.device_key,
        attest=signed.attest,
        signature=signed.signature,
        qualifying_data=binding,
    )


def test_the_quote_and_the_registers_of_the_example_are_accepted() -> None:
    quote = authenticate_quote(
        EXCHANGE.ak, EXCHANGE.proof.quote, qualifying_data=EXCHANGE.quote_binding, selection=SELECTION
    )

    assert [index for index, _ in check_pcr_values(quote, EXCHANGE.proof.pcrs, SELECTION)] == list(SELECTION.pcrs)


def test_the_next_quote_of_the_example_moves_the_clock_forward() -> None:
    quote = authenticate_quote(
        EXCHANGE.ak, EXCHANGE.attest.quote, qualifying_data=EXCHANGE.attest_binding, selection=SELECTION
    )

    check_progress(Progress(reset_count=7, restart_count=0, clock=86_400_000), quote, rebooted=False)

    assert quote.clock.clock == 86_460_000


def test_one_changed_register_is_refused() -> None:
    quote = authenticate_quote(
        EXCHANGE.ak, EXCHANGE.proof.quote, qualifying_data=EXCHANGE.quote_binding, selection=SELECTION
    )
    first, *others = EXCHANGE.proof.pcrs
    changed = (replace(first, value=bytes(32)), *others)

    with pytest.raises(Refused) as refused:
        check_pcr_values(quote, changed, SELECTION)

    assert refused.value.reason is Reason.QUOTE_PCR_DIGEST
