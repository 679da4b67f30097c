"""Requests and responses at the level of ASGI, for the routes that devices use.

No framework stands between a device and the verifier: every layer there costs more than the verification itself. Bodies
are bounded in size and in time; compressed ones are refused, for a kilobyte can be a gigabyte.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from attestd.api.bodies import Body
from attestd.errors import Refused
from attestd.protocol import codec, limits
from attestd.protocol.reasons import Reason

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_SAFE_HEADERS: Final = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


def media_type(scope: Scope) -> str:
    """Return the body's media type. Raises `Refused` (media-type-unsupported) for a compressed or unknown one."""
    kind = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = value
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            raise Refused(Reason.MEDIA_TYPE_UNSUPPORTED, "compressed body")
    plain: str = kind.split(b";", 1)[0].strip().lower().decode("latin-1")
    if plain not in (codec.CBOR, codec.JSON):
        raise Refused(Reason.MEDIA_TYPE_UNSUPPORTED, plain[:64])
    return plain


async def read_body(scope: Scope, receive: Receive, *, most: int, held: Body | None = None) -> bytes:
    """Return the whole body, of at most `most` bytes, within `MAX_BODY_SECONDS`; `held` accounts for a large one.

    Raises `Refused` (message-too-large before reading where the length is announced, message-timeout, server-busy).
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or len(value) > 12 or int(value) > most):
            raise Refused(Reason.MESSAGE_TOO_LARGE, f"{most} bytes at most")
    try:
        async with asyncio.timeout(limits.MAX_BODY_SECONDS) as patience:
            message = await _receive(receive)
            body: bytes = message.get("body", b"")
            parts, size = [body], len(body)
            while size <= most and message.get("more_body"):
                message = await _receive(receive)
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if held is not None:
                    held.grow(size, patience)
            if held is not None and size > limits.MAX_ANONYMOUS_BODY:
                held.grow(size, patience)
                held.arrived()
    except TimeoutError:
        raise Refused(Reason.MESSAGE_TIMEOUT) from None
    if size > most:
        raise Refused(Reason.MESSAGE_TOO_LARGE, f"{most} bytes at most")
    return b"".join(parts) if len(parts) > 1 else body


async def _receive(receive: Receive) -> MutableMapping[str, Any]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Refused(Reason.MESSAGE_TIMEOUT, "the caller went away")
    return message


async def respond(
    send: Send, status: int, body: bytes, kind: str, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """Send a whole response."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", kind.encode("latin-1")),
                (b"content-length", str(len(body)).encode("ascii")),
                *_SAFE_HEADERS,
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
