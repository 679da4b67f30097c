"""The worked exchange of docs/protocol.md passes every check of the verifier in both encodings, and one changed byte does not."""

import hashlib
from dataclasses import replace

import pytest
from cryptography import x509

from architecture.worked_answers import RESULT_KEY
from architecture.worked_exchange import SENT_MS, SERVER, Exchange, worked_exchange
from architecture.worked_keys import seed
from architecture.worked_vectors import binding_cases, encoded_binding
from attestd.appraisal.ear import verify_ear
from attestd.appraisal.policy import Tier
from attestd.errors import Refused
from attestd.evidence.ak import check_attestation_key, check_certification, check_device_key
from attestd.evidence.challenge import Challenger
from attestd.evidence.quote import Progress, Selection, authenticate_quote, check_pcr_values, check_progress
from attestd.protocol import codec, messages
from attestd.protocol.binding import qualifying_data
from attestd.protocol.reasons import Reason

EXCHANGE = worked_exchange()
EXCHANGES = {"cbor": EXCHANGE, "json": worked_exchange(codec.JSON)}
SELECTION = Selection(EXCHANGE.challenge.quote.bank, EXCHANGE.challenge.quote.pcrs)
in_both = pytest.mark.parametrize("exchange", EXCHANGES.values(), ids=EXCHANGES)


@in_both
def test_every_message_of_the_example_decodes_to_itself(exchange: Exchange) -> None:
    for _, message in exchange.by_name():
        for media_type in (codec.CBOR, codec.JSON):
            assert codec.decode(type(message), codec.encode(message, media_type), media_type) == message


@in_both
def test_the_proof_carries_the_first_message_in_its_own_encoding(exchange: Exchange) -> None:
    assert codec.decode(messages.EnrolRequest, exchange.proof.request, exchange.media_type) == exchange.request


def test_the_keys_of_the_example_are_accepted() -> None:
    assert check_attestation_key(EXCHANGE.request.ak_public) == EXCHANGE.ak
    assert check_device_key(EXCHANGE.request.device_key) == EXCHANGE.device_key


@in_both
def test_the_nonce_of_the_example_is_the_challengers_own(exchange: Exchange) -> None:
    digest = hashlib.sha256(exchange.request_bytes).digest()
    (activation,) = exchange.proof.activations
    challenger = Challenger("attestd", seed("challenger"))

    challenger.check_enrol_nonce(activation.nonce, request_digest=digest, now_ms=SENT_MS)

    assert challenger.activation_secret(activation.nonce, digest) == activation.secret


@in_both
def test_the_certification_of_the_example_is_accepted(exchange: Exchange) -> None:
    _certified(exchange, exchange.certify_binding)  # raises where it is not


def test_the_certification_of_the_example_is_bound_to_its_purpose() -> None:
    with pytest.raises(Refused) as refused:
        _certified(EXCHANGE, EXCHANGE.quote_binding)

    assert refused.value.reason is Reason.DEVICE_KEY_NOT_CERTIFIED


def _certified(exchange: Exchange, binding: bytes) -> None:
    signed = exchange.proof.certify
    check_certification(
        exchange.ak,
        exchange.device_key,
        attest=signed.attest,
        signature=signed.signature,
        qualifying_data=binding,
    )


@in_both
def test_the_quote_and_the_registers_of_the_example_are_accepted(exchange: Exchange) -> None:
    quote = authenticate_quote(
        exchange.ak, exchange.proof.quote, qualifying_data=exchange.quote_binding, selection=SELECTION
    )

    assert [index for index, _ in check_pcr_values(quote, exchange.proof.pcrs, SELECTION)] == list(SELECTION.pcrs)


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


@in_both
def test_the_result_of_the_example_is_one_that_a_relying_party_accepts(exchange: Exchange) -> None:
    read = verify_ear(
        exchange.attested.result,
        RESULT_KEY.private.public_key(),
        issuer="spiffe://fleet.example",
        device_id=exchange.device_id,
        now=SENT_MS // 1000 + 180,
        nonce=exchange.attest_after_reboot.nonce,
    )

    assert read.tier is Tier.AFFIRMING


@in_both
def test_the_certificate_of_the_example_is_the_device_keys_and_chains_to_its_root(exchange: Exchange) -> None:
    device, authority = map(x509.load_der_x509_certificate, exchange.enrolled.certificate_chain)

    device.verify_directly_issued_by(authority)
    authority.verify_directly_issued_by(authority)

    assert device.subject.rfc4514_string() == f"CN={exchange.device_id}"


CASES = binding_cases(EXCHANGE)


@pytest.mark.parametrize("name", CASES)
def test_the_bindings_of_the_vectors_are_those_of_both_sides(name: str) -> None:
    case = CASES[name]

    made = qualifying_data(
        case.purpose,
        server=case.server,
        nonces=case.nonces,
        device_id=case.device_id,
        device_key_name=case.device_key_name,
        vpn_keys=case.vpn_keys,
    )

    assert (encoded_binding(case)[2], case.server == SERVER) == (made, name != "an address for a name")
