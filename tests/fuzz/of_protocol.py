"""What crosses the wire: messages in both encodings, request heads and bodies, and what the framework puts around them."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any, Final

from uvicorn import Config
from uvicorn.server import ServerState

import cert_forge
from attestd.api.connection import BoundedProtocol
from attestd.api.http import media_type, read_body
from attestd.errors import Refused
from attestd.protocol.codec import CBOR, JSON, SHAPES, MessageMalformed, decode, encode
from attestd.protocol.messages import (
    Activation,
    Attested,
    Challenge,
    EnrolChallenge,
    Enrolled,
    EnrolProof,
    Finding,
    Next,
    QuoteRequest,
    RuntimeList,
    VpnCredential,
    VpnPeer,
)
from fuzz.of_tpm import each
from fuzz.target import Target
from softchip import SoftChip

_MESSAGES: Final = tuple(SHAPES)
_MOST: Final = 32 << 10


def messages() -> Iterator[Any]:
    """Return one message of every kind."""
    chip = SoftChip(
        now_s=1_795_350_000, ek=cert_forge.ec_key(44), ak=cert_forge.ec_key(33), device_key=cert_forge.ec_key(55)
    )
    nonce = bytes(48)
    asked = QuoteRequest("sha256", tuple(range(15)))
    request = chip.request()
    proof = EnrolProof(
        request=encode(request, CBOR),
        activations=(Activation("v", nonce, bytes(32)),),
        certify=chip.certify(nonce),
        quote=chip.quote(nonce),
        pcrs=chip.values(),
        event_log=b"a log",
        runtime=RuntimeList(3, b"entries"),
    )
    finding = Finding("claim-mismatch", "kernel", "a kernel", "one of them", pcr=4, event=7)
    peer = VpnPeer("A" * 43 + "=", "vpn.example:51820", ("10.0.0.0/8",), 25)
    credential = VpnCredential("wireguard", bytes(32), ("10.0.0.2/32",), (peer,), "a document\nof two lines")
    following = Next(nonce, 60, 300)
    yield from (request, proof, chip.attest_request(nonce), chip.whole_attest_request(nonce))
    yield EnrolChallenge((Challenge("v", nonce, b"b" * 64, b"s" * 64),), asked, 120)
    yield Enrolled(chip.device_id, "trusted", "a.b.c", chip.certificates, following, (credential,), (finding,))
    yield Attested("trusted", "a.b.c", following, ("certificate",), (finding,), chip.certificates)
    yield from (finding, credential, following, asked)


def _encoded(media: str) -> Iterator[bytes]:
    for message in messages():
        yield bytes((_MESSAGES.index(type(message)),)) + encode(message, media)


def _decode(data: bytes, media: str) -> None:
    """The first byte chooses the message, the others are the body."""
    kind = _MESSAGES[data[0] % len(_MESSAGES)] if data else _MESSAGES[0]
    message = decode(kind, data[1:], media)
    for way in (CBOR, JSON):
        assert decode(kind, encode(message, way), way) == message, "what was read is written as something else"


# --- Requests ---------------------------------------------------------------------------------------------------------------

_LOOP: Final = asyncio.new_event_loop()


async def _application(scope: Any, receive: Any, send: Any) -> None:
    """Do with a request what the routes of devices do with it."""
    try:
        media_type(scope)
        body = await read_body(scope, receive, most=_MOST)
        assert len(body) <= _MOST
        status = 200
    except Refused:
        status = 400
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class _Wire:
    """A transport that forgets what is written and remembers that it was closed."""

    def __init__(self) -> None:
        self.ended = False

    def write(self, data: bytes) -> None: ...

    def close(self) -> None:
        self.ended = True

    abort = close

    def is_closing(self) -> bool:
        return self.ended

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


_CONFIG: Final = Config(_application, http=BoundedProtocol, ws="none", log_config=None, access_log=False)
_CONFIG.load()
_QUIET: Final = logging.Logger("of no one", logging.CRITICAL + 1)


async def _connection(data: bytes) -> None:
    wire = _Wire()
    protocol = BoundedProtocol(_CONFIG, ServerState(), {})
    protocol.logger = _QUIET
    protocol.connection_made(wire)  # type: ignore[arg-type]
    for start in range(0, len(data), 16 << 10):
        if not wire.ended:
            protocol.data_received(data[start : start + (16 << 10)])
            await asyncio.sleep(0)
    for _ in range(4):
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    waiting = asyncio.all_tasks() - {asyncio.current_task()}
    for _ in range(20):
        if not waiting:
            break
        await asyncio.sleep(0)
        waiting = {task for task in waiting if not task.done()}
    for task in waiting:
        task.cancel()


def _head(data: bytes) -> None:
    first, _, rest = data.partition(b"\n")
    scope = {"headers": [(b"content-type", first), (b"content-length", rest[:40]), (b"content-encoding", rest[40:])]}
    each(lambda: media_type(scope), lambda: media_type({"headers": scope["headers"][:1]}), own=Refused)


def _requests() -> Iterator[bytes]:
    post = b"POST /v1/attest HTTP/1.1\r\nhost: x\r\ncontent-type: application/cbor\r\n"
    yield post + b"content-length: 3\r\n\r\nabc"
    yield post + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    yield b"GET /v1/keys HTTP/1.1\r\nhost: x\r\n\r\n" * 3
    yield post + b"content-encoding: gzip\r\ncontent-length: 99999999999\r\nexpect: 100-continue\r\n\r\n"
    yield b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"


_OWN: Final = (MessageMalformed,)

TARGETS: Final = {
    "codec": Target(
        lambda data: _decode(data, CBOR),
        _OWN,
        lambda: _encoded(CBOR),
        (decode,),
        form="message",
        words=(b"nonce", b"\xc2", b"\x5f"),
    ),
    "codecjson": Target(
        lambda data: _decode(data, JSON),
        _OWN,
        lambda: _encoded(JSON),
        (decode,),
        form="jsonmessage",
        words=(b'"\\ud800"', b"1e5", b"NaN"),
    ),
    "http": Target(
        lambda data: _LOOP.run_until_complete(_connection(data)),
        (),
        _requests,
        (BoundedProtocol.data_received, read_body, media_type),
        words=(
            b"content-length: ",
            b"transfer-encoding: chunked\r\n",
            b"\r\n\r\n",
            b"connection: close\r\n",
            b"HTTP/1.0",
        ),
    ),
    "mediatype": Target(
        _head, (), lambda: [b"application/cbor\n10", b"application/json; charset=utf-8\n"], (media_type,)
    ),
}
