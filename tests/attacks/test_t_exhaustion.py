"""Strangers, and single devices, who try to use up the verifier: its processor, its memory, its threads, its descriptors."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attestd.errors import Refused
from attestd.protocol import codec
from attestd.protocol.codec import MessageMalformed
from attestd.protocol.limits import MAX_BODY, MAX_ITEMS, MAX_JSON_BODY
from attestd.protocol.messages import Attested, AttestRequest
from attestd.protocol.reasons import Reason
from attestd.services import publish, records, storing
from attestd.services.attest import attest_batch
from attestd.store.errors import StoreConflict, StoreUnavailable
from attestd_agent.lab.firmware import BootImage
from attestd_pki.crl import verify_crl
from softchip import SoftChip
from world import World, sqlite_world

EVIL = BootImage().with_command_line("root=/dev/sda1 evil=1")

# --- The processor: what a body costs before anything is proved ---------------------------------------------------------


def _array_of(item: bytes) -> bytes:
    """Return a map with one array that fills the largest body."""
    count = (MAX_BODY - 100) // len(item)
    return b"\xa1\x61x\x9a" + count.to_bytes(4) + item * count


MANY = {
    "integers": _array_of(b"\x01"),
    "maps": _array_of(b"\xa0"),
    "arrays": _array_of(b"\x80"),
    "texts": _array_of(b"\x61a"),
    "strings with a long length": _array_of(b"\x5b" + bytes(8)),
    "nested arrays": _array_of(b"\x81\x81\x81\x81\x01"),
}


def cost_of_refusing(body: bytes, kind: str) -> float:
    """Return the milliseconds that the fastest of five refusals takes."""
    spent = []
    for _ in range(5):
        began = time.perf_counter()
        with pytest.raises(MessageMalformed):
            codec.decode(AttestRequest, body, kind)
        spent.append(time.perf_counter() - began)
    return min(spent) * 1000


@pytest.mark.attack("T04", reason="message-malformed")
@pytest.mark.parametrize("name", MANY)
def test_t04_millions_of_items_are_refused_before_one_is_made(name: str) -> None:
    assert cost_of_refusing(MANY[name], codec.CBOR) < 2


@pytest.mark.attack("T04", reason="message-malformed")
@pytest.mark.parametrize("item", [b'{"":0}', b"[]", b"0", b'{"":{"":{"":{}}}}'])
def test_t04_a_json_body_of_many_items_is_refused_before_one_is_made(item: bytes) -> None:
    body = b'{"x":[' + b",".join([item] * ((MAX_JSON_BODY - 100) // (len(item) + 1))) + b"]}"
    assert cost_of_refusing(body, codec.JSON) < 2


TAGS = {
    "a decimal fraction of eight megabytes": b"\xc4\x82\x01\xc2\x5a"
    + (MAX_BODY - 100).to_bytes(4)
    + b"a" * (MAX_BODY - 100),
    "a large integer": b"\xc2\x41\x01",
    "a regular expression": b"\xd8\x23\x64(a+)",
    "a value that contains itself": b"\xd8\x1c\x81\xd8\x1d\x00",
    "a mail message": b"\xd8\x24\x61a",
    "a time": b"\xc1\x01",
    "the tag that says CBOR": b"\xd9\xd9\xf7\x01",
}


@pytest.mark.attack("T04", reason="message-malformed")
@pytest.mark.parametrize("name", TAGS)
def test_t04_a_tag_is_refused_and_what_it_stands_for_never_computed(name: str) -> None:
    began = time.perf_counter()
    with pytest.raises(MessageMalformed, match="no place in a message"):
        codec.decode(AttestRequest, b"\xa1\x61x" + TAGS[name], codec.CBOR)
    assert time.perf_counter() - began < 1


def test_a_message_may_have_all_its_items_and_not_one_more() -> None:
    def of(count: int) -> bytes:  # the map, its key and the array are items too
        return b"\xa1\x61x\x99" + (count - 3).to_bytes(2) + b"\x01" * (count - 3)

    with pytest.raises(MessageMalformed, match="unknown field"):
        codec.decode(AttestRequest, of(MAX_ITEMS), codec.CBOR)
    with pytest.raises(MessageMalformed, match=f"more than {MAX_ITEMS} items"):
        codec.decode(AttestRequest, of(MAX_ITEMS + 1), codec.CBOR)


# --- A neighbour's failure -----------------------------------------------------------------------------------------------


@pytest.fixture
def verifier(tmp_path: Path) -> Iterator[World]:
    """A verifier with one profile, met by every device that boots as it should."""
    with sqlite_world(tmp_path) as made:
        made.golden(SoftChip(made.now_s))
        yield made
        made.verifier.store.close()


def enrolled(world: World, name: str) -> tuple[SoftChip, bytes]:
    """Return an enrolled device and the nonce of its next proof."""
    chip = SoftChip(world.now_s)
    world.announce(chip, name)
    return chip, world.enrol(chip).next.nonce


def proof_of_an_altered_boot(chip: SoftChip, nonce: bytes) -> AttestRequest:
    """Reboot into what no profile lists, and return the announced proof of it: the device loses its trust."""
    chip.boot(EVIL)
    return chip.attest_request(nonce, pcrs=chip.values(), event_log=chip.event_log, rebooted=True)


def batch_of_a_good_and_a_bad_neighbour(world: World) -> list[Attested | Refused]:
    (good, first), (bad, second) = enrolled(world, "good"), enrolled(world, "bad")
    return attest_batch(world.verifier, [proof_of_an_altered_boot(bad, second), good.attest_request(first)])


@pytest.mark.attack("T05", reason="server-busy")
@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (StoreConflict("a constraint"), Reason.SERVER_BUSY),
        (StoreUnavailable("a lock"), Reason.SERVER_BUSY),
        (Refused(Reason.GRANT_INVALID), Reason.GRANT_INVALID),
        (ZeroDivisionError("a defect"), Reason.INTERNAL),
    ],
    ids=lambda value: type(value).__name__,
)
def test_t05_a_neighbour_whose_proof_cannot_be_stored_fails_alone(
    verifier: World, monkeypatch: pytest.MonkeyPatch, failure: Exception, told: Reason
) -> None:
    def fail(*_: object, **__: object) -> bool:
        raise failure

    monkeypatch.setattr(storing, "withdraw", fail)
    bad, good = batch_of_a_good_and_a_bad_neighbour(verifier)
    assert isinstance(bad, Refused)
    assert bad.reason is told
    assert isinstance(good, Attested)


@pytest.mark.attack("T05", reason="evidence-refused")
def test_t05_a_list_that_cannot_be_published_fails_nobody_whose_proof_is_stored(
    verifier: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier.call("GET", "/v1/crl")
    with monkeypatch.context() as patch:
        patch.setattr(publish, "refresh_crl", _unavailable)
        bad, good = batch_of_a_good_and_a_bad_neighbour(verifier)
    assert isinstance(bad, Refused)
    assert bad.reason is Reason.EVIDENCE_REFUSED
    assert isinstance(good, Attested)
    publish.renew_crl(verifier.verifier)  # what the sweep does within a second
    listed = verify_crl(
        publish.current_crl(verifier.verifier), issuer=verifier.verifier.issuer.identity, now=verifier.now_s
    )
    assert len(listed.entries) == 1


def _unavailable(*_: object) -> bytes:
    raise StoreUnavailable("a lock")


@pytest.mark.attack("T05", reason="internal")
def test_t05_an_answer_that_cannot_be_made_fails_alone(verifier: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (first, nonce), (second, other) = enrolled(verifier, "first"), enrolled(verifier, "second")
    sign, calls = records.sign_result, []

    def sometimes(*arguments: Any, **named: Any) -> str:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError
        return sign(*arguments, **named)

    monkeypatch.setattr(records, "sign_result", sometimes)
    outcomes = attest_batch(verifier.verifier, [first.attest_request(nonce), second.attest_request(other)])
    assert [type(one) for one in outcomes] == [Refused, Attested]
