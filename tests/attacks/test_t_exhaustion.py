"""Strangers, and single devices, who try to use up the verifier: its processor, its memory, its threads, its descriptors."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from attestd.api.bodies import Bodies
from attestd.api.workers import Workers
from attestd.errors import Refused
from attestd.protocol import codec, limits
from attestd.protocol.codec import MessageMalformed
from attestd.protocol.limits import MAX_BODY, MAX_ITEMS, MAX_JSON_BODY
from attestd.protocol.messages import Attested, AttestRequest, RuntimeList
from attestd.protocol.reasons import Reason
from attestd.services import attest, enrol, publish, records, storing
from attestd.services.attest import attest_batch
from attestd.services.context import Verifier
from attestd.store.errors import StoreConflict, StoreUnavailable
from attestd_agent.lab.firmware import BootImage
from attestd_pki.crl import verify_crl
from softchip import SoftChip
from tpm_structures import ima_entry
from world import Problem, World, sqlite_world

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


# --- Memory --------------------------------------------------------------------------------------------------------------

HEAD = "POST /v1/attest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/cbor\r\ncontent-length: {}\r\n\r\n"


def hold_back(world: World, size: int) -> socket.socket:
    """Send all of a body but its last byte."""
    caller = socket.create_connection(("127.0.0.1", world.port), timeout=10)
    caller.sendall(HEAD.format(size).encode() + bytes(size - 1))
    return caller


@pytest.mark.attack("T03", reason="message-timeout")
def test_t03_bodies_that_are_held_back_make_room_for_one_that_comes(
    verifier: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_BODIES_HELD", 1_000_000)
    held = [hold_back(verifier, 400_000) for _ in range(6)]
    whole = b"\xa1\x61x\x5a" + (600_000).to_bytes(4) + bytes(600_000)
    answer = verifier.call("POST", "/v1/attest", whole, {"content-type": codec.CBOR})
    assert json.loads(answer[2])["code"] == "message-malformed"  # it was read to its end
    assert held[0].recv(65_536).startswith(b"HTTP/1.1 408 ")
    for caller in held:
        caller.close()


@pytest.mark.attack("T03", reason="message-timeout")
def test_t03_strangers_who_hold_bodies_back_fill_no_memory(verifier: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BODIES_HELD", 8 * 2**20)
    before = resident()
    held = [hold_back(verifier, MAX_BODY) for _ in range(20)]
    assert resident() - before < 100 * 2**20
    for caller in held:
        caller.close()


def resident() -> int:
    """Return the bytes of memory that this process, with the verifier in it, has now."""
    return psutil.Process().memory_info().rss


@pytest.mark.attack("T05", reason="server-busy")
def test_t05_large_bodies_that_wait_for_their_answers_are_bounded_and_small_ones_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_BODIES_HELD", 100_000)

    async def come() -> None:
        bodies = Bodies()
        async with asyncio.timeout(60) as patience:
            with bodies.hold() as first:
                first.grow(90_000, patience)
                first.arrived()
                with bodies.hold() as second, pytest.raises(Refused, match="server-busy"):
                    second.grow(40_000, patience)
                with bodies.hold() as small:
                    small.grow(limits.MAX_ANONYMOUS_BODY, patience)
            with bodies.hold() as third:  # what was held is free again, all of it
                third.grow(100_000, patience)

    asyncio.run(come())


# --- A slow neighbour ----------------------------------------------------------------------------------------------------

LONG = RuntimeList(0, ima_entry(b"/usr/bin/x") * (limits.LONG_PROOF // len(ima_entry(b"/usr/bin/x")) + 1))


def long_proof(chip: SoftChip, nonce: bytes, **changes: Any) -> AttestRequest:
    """Return an honest proof that brings a long runtime list, which its profile does not look at."""
    return chip.attest_request(nonce, pcrs=chip.values(), runtime=LONG, **changes)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What is slow waits for this; opened after the test in any case."""
    made = threading.Event()
    yield made
    made.set()


@contextmanager
def in_background(work: Callable[[], object]) -> Iterator[None]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    time.sleep(0.2)
    yield
    thread.join(20)


@pytest.mark.attack("T05")
def test_t05_a_routine_proof_does_not_wait_behind_a_long_one(
    verifier: World, monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    (slow, first), (other, second) = enrolled(verifier, "slow"), enrolled(verifier, "other")
    whole = attest.attest_batch

    def gated(verifier: Verifier, requests: Sequence[AttestRequest]) -> list[Attested | Refused]:
        if any(request.runtime for request in requests):
            gate.wait(20)
        return whole(verifier, requests)

    monkeypatch.setattr(attest, "attest_batch", gated)
    with in_background(lambda: verifier.attest(long_proof(slow, first))):
        assert verifier.attest(other.attest_request(second)).state == "trusted"
        assert not gate.is_set()
        gate.set()


@pytest.mark.attack("T05", reason="server-busy")
def test_t05_a_device_whose_proof_took_long_waits_before_the_next_long_one(
    verifier: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(limits, "TURN_PAUSE", 1e5)
    (slow, first), (other, second) = enrolled(verifier, "slow"), enrolled(verifier, "other")
    following = verifier.attest(long_proof(slow, first)).next.nonce
    with pytest.raises(Problem) as refused:
        verifier.attest(long_proof(slow, following))
    assert refused.value.code == "server-busy"
    assert int(refused.value.headers["retry-after"]) > 0
    assert verifier.attest(long_proof(other, second)).state == "trusted"
    assert verifier.attest(slow.attest_request(following)).state == "trusted"


@pytest.mark.attack("T05", reason="quote-signature")
def test_t05_a_stranger_takes_no_device_its_turn(verifier: World) -> None:
    chip, nonce = enrolled(verifier, "gate")
    signed = chip.attest_request(nonce).quote
    forged = replace(signed, signature=signed.signature[:-8] + bytes(8))
    for _ in range(5):
        with pytest.raises(Problem, match="quote-signature"):
            verifier.attest(long_proof(chip, nonce, quote=forged))
    assert verifier.attest(long_proof(chip, nonce)).state == "trusted"


# --- Queues ---------------------------------------------------------------------------------------------------------------


@pytest.mark.attack("T05", reason="server-busy")
def test_t05_who_would_wait_too_long_is_told_to_come_back_and_a_place_is_free_when_work_is_done() -> None:
    async def come() -> None:
        workers = Workers("test", threads=1, most=2)
        gate = threading.Event()
        waiting = [asyncio.create_task(workers.run(gate.wait, 10)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="server-busy"):
            await workers.run(gate.is_set)
        waiting[0].cancel()  # the caller went away; the thread is still at work
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="server-busy"):
            await workers.run(gate.is_set)
        gate.set()
        assert await waiting[1]
        assert await workers.run(gate.is_set)
        workers.close()

    asyncio.run(come())


@pytest.mark.attack("T05")
def test_t05_what_is_public_and_a_first_message_do_not_wait_behind_proofs(
    verifier: World, monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    monkeypatch.setattr(enrol, "prove", lambda *_: gate.wait(20))
    chip = SoftChip(verifier.now_s)
    body = codec.encode(chip.request(), codec.CBOR)
    whole = codec.encode(chip.proof(body, verifier.begin(body)), codec.CBOR)

    def send() -> None:
        verifier.call("POST", "/v1/enrol/proof", whole, {"content-type": codec.CBOR})

    with ExitStack() as behind:
        for _ in range(4):
            behind.enter_context(
                in_background(lambda: verifier.call("POST", "/v1/enrol/proof", whole, {"content-type": codec.CBOR}))
            )
        assert verifier.call("GET", "/v1/crl")[0] == 200
        assert verifier.call("GET", "/v1/trust-anchor")[0] == 200
        assert verifier.begin(body).challenges
        assert not gate.is_set()
        monkeypatch.undo()
        gate.set()


# --- A verifier that is not well -------------------------------------------------------------------------------------------


def test_a_verifier_whose_sweep_fails_says_that_it_is_not_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_SWEEP_AGE", 1.5)
    with sqlite_world(tmp_path) as world:
        assert world.call("GET", "/v1/health")[0] == 200
        with monkeypatch.context() as broken:
            broken.setattr("attestd.api.application.expire_silent", _unavailable)
            assert eventually(lambda: world.call("GET", "/v1/health")[0] == 503)
        assert eventually(lambda: world.call("GET", "/v1/health")[0] == 200)
        world.verifier.store.close()


def eventually(holds: Callable[[], bool], *, seconds: float = 15.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.attack("T05")
def test_t05_a_device_that_enrols_again_has_its_credentials_though_the_list_cannot_be_published(
    verifier: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    chip, _ = enrolled(verifier, "again")
    verifier.call("GET", "/v1/crl")
    chip.renew_keys()
    monkeypatch.setattr(publish, "refresh_crl", _unavailable)
    assert verifier.enrol(chip).state == "trusted"
