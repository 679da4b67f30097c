"""Bodies at the level of ASGI: bounded in bytes and in time, never decompressed."""

import asyncio
from typing import Any

import pytest

from attestd.api.http import media_type, read_body, respond
from attestd.errors import Refused
from attestd.protocol import limits


def received(*messages: dict[str, Any], pause: float = 0.0) -> Any:
    """Return a receive function that hands these messages out, and then nothing for ever."""
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(pause)
        if not waiting:
            await asyncio.sleep(60)
        return waiting.pop(0)

    return receive


def part(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def read(
    *messages: dict[str, Any], headers: dict[bytes, bytes] | None = None, most: int = 10, pause: float = 0.0
) -> bytes:
    scope = {"headers": list((headers or {}).items())}
    return asyncio.run(read_body(scope, received(*messages, pause=pause), most=most))


def test_a_body_in_one_piece_or_several_is_the_same() -> None:
    assert read(part(b"0123456789")) == b"0123456789"
    assert read(part(b"01234", True), part(b"", True), part(b"56789")) == b"0123456789"
    assert read(part(b"")) == b""


@pytest.mark.parametrize(
    "messages", [[part(b"a" * 11)], [part(b"a" * 5, True), part(b"a" * 6)], [part(b"a" * 11, True)]], ids=len
)
def test_t03_a_body_beyond_its_bound_is_refused(messages: list[dict[str, Any]]) -> None:
    with pytest.raises(Refused, match="message-too-large"):
        read(*messages)


@pytest.mark.parametrize("length", [b"11", b"9" * 12, b"9" * 13, b"-1", b"+5", b"1e1", b"", b"0x5", "٥".encode()])
def test_t03_a_body_is_refused_by_what_it_announces(length: bytes) -> None:
    with pytest.raises(Refused, match="message-too-large"):
        read(headers={b"content-length": length})


@pytest.mark.parametrize("parts", [0, 1, 1000])
def test_t03_a_body_that_does_not_end_in_time_is_refused(monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    monkeypatch.setattr(limits, "MAX_BODY_SECONDS", 0.1)
    with pytest.raises(Refused, match="message-timeout"):
        read(*[part(b"", True)] * parts, pause=0.01)


def test_a_caller_who_goes_away_is_not_waited_for() -> None:
    with pytest.raises(Refused, match="message-timeout"):
        read(part(b"a", True), {"type": "http.disconnect"})


@pytest.mark.parametrize(
    "kind", [b"application/cbor", b"APPLICATION/CBOR", b"application/cbor; q=1", b" application/cbor "]
)
def test_a_media_type_is_read_without_its_parameters(kind: bytes) -> None:
    assert media_type({"headers": [(b"content-type", kind)]}) == "application/cbor"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-type", b"text/html")],
        [(b"content-type", b"\xff\xfe")],
        [(b"content-type", b"application/cbor"), (b"content-encoding", b"gzip")],
        [(b"content-encoding", b"br"), (b"content-type", b"application/cbor")],
    ],
)
def test_t03_what_is_neither_cbor_nor_json_or_is_compressed_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Refused, match="media-type-unsupported"):
        media_type({"headers": headers})


def test_an_answer_is_not_stored_and_not_guessed_at() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(respond(send, 200, b"body", "application/cbor", ((b"x", b"y"),)))
    headers = dict(sent[0]["headers"])
    assert headers[b"content-length"] == b"4"
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"x"] == b"y"
    assert sent[1]["body"] == b"body"
