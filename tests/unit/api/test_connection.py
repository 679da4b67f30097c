"""The protocol of a connection, without a network: when it counts, when it waits, and when it gives up."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from attestd.api.connection import LEAST_OUTPUT, MAX_PIPELINED, BoundedProtocol
from attestd.protocol import limits

GET = b"GET /v1/keys HTTP/1.1\r\nhost: x\r\n\r\n"


class Wire:
    """A transport that remembers what was done to it; `unsent` is the size of its buffer."""

    def __init__(self) -> None:
        self.written = b""
        self.ended = ""
        self.unsent = 0

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = self.ended or "aborted"

    def is_closing(self) -> bool:
        return bool(self.ended)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def application(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


def scene(play: Callable[[BoundedProtocol, Wire], Any]) -> Wire:
    """Connect, let `play` act, and return what became of the transport."""
    wire = Wire()

    async def run() -> None:
        config = Config(application, http=BoundedProtocol, ws="none", log_config=None)
        config.load()
        protocol = BoundedProtocol(config, ServerState(), {})
        protocol.connection_made(wire)  # type: ignore[arg-type]
        outcome = play(protocol, wire)
        if asyncio.iscoroutine(outcome):
            await outcome
        for task in protocol.tasks:
            task.cancel()
        protocol.connection_lost(ConnectionError())

    asyncio.run(run())
    return wire


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_HEADER_SECONDS", 0.02)
    monkeypatch.setattr(limits, "MAX_BODY_SECONDS", 0.02)


async def a_while() -> None:
    await asyncio.sleep(0.3)


def test_t03_who_says_nothing_is_given_up() -> None:
    assert scene(lambda _p, _w: a_while()).ended == "aborted"


def test_t03_a_head_that_does_not_end_is_given_up() -> None:
    async def play(protocol: BoundedProtocol, wire: Wire) -> None:
        protocol.data_received(GET[:10])
        await a_while()

    assert scene(play).ended == "aborted"


def test_a_request_that_is_complete_is_waited_for_as_long_as_it_takes() -> None:
    async def play(protocol: BoundedProtocol, wire: Wire) -> None:
        protocol.data_received(GET)
        await a_while()

    assert scene(play).ended == ""


def test_t03_a_body_that_does_not_end_is_given_up() -> None:
    async def play(protocol: BoundedProtocol, wire: Wire) -> None:
        protocol.data_received(GET.replace(b"\r\n\r\n", b"\r\ncontent-length: 9\r\n\r\n12345678"))
        await a_while()

    assert scene(play).ended == "aborted"


def test_t03_the_clock_of_a_head_runs_from_its_first_byte_and_is_not_set_back() -> None:
    async def play(protocol: BoundedProtocol, wire: Wire) -> None:
        for byte in GET * 2:
            protocol.data_received(bytes([byte]))
            await asyncio.sleep(0.005)
            if wire.ended:
                break

    assert scene(play).ended == "aborted"


@pytest.mark.parametrize("pieces", [1, 17])
def test_t03_a_head_without_end_is_closed(pieces: int) -> None:
    def play(protocol: BoundedProtocol, wire: Wire) -> None:
        protocol.data_received(b"GET / HTTP/1.1\r\n")
        for _ in range(pieces):
            protocol.data_received(b"x: " + b"a" * (limits.MAX_HEADER_BYTES // pieces + 1))

    assert scene(play).ended == "closed"


def test_t03_more_requests_at_once_than_anybody_needs_end_the_connection() -> None:
    assert scene(lambda protocol, _w: protocol.data_received(GET * (MAX_PIPELINED + 1))).ended == ""
    flooded = scene(lambda protocol, _w: protocol.data_received(GET * (MAX_PIPELINED + 2)))
    assert flooded.ended == "closed"
    assert flooded.written.startswith(b"HTTP/1.1 400 ")


def test_t03_an_answer_that_nobody_fetches_is_given_up() -> None:
    async def play(protocol: BoundedProtocol, wire: Wire) -> None:
        protocol.data_received(GET)
        wire.unsent = 10 * LEAST_OUTPUT
        protocol.pause_writing()
        await a_while()

    assert scene(play).ended == "aborted"


def test_an_answer_that_is_fetched_slowly_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BODY_SECONDS", 0.3)

    async def play(protocol: BoundedProtocol, wire: Wire) -> None:
        protocol.data_received(GET)
        wire.unsent = 90 * LEAST_OUTPUT
        protocol.pause_writing()
        for _ in range(80):
            wire.unsent -= LEAST_OUTPUT
            await asyncio.sleep(0.01)
        protocol.resume_writing()
        await a_while()

    assert scene(play).ended == ""


def test_t03_who_comes_when_all_places_are_taken_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 0)
    wire = scene(lambda _p, _w: None)
    head, _, body = wire.written.partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head
    assert wire.ended == "closed"
