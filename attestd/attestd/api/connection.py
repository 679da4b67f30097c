"""A connection with deadlines: uvicorn's protocol, which by itself waits for a request head for ever.

Bounds what a caller can hold open before it has proved anything: time and bytes of a request head, connections of the
process. Bodies are bounded in `api.http`, where their limit is known.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from attestd.protocol import limits

_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 30\r\ncontent-type: application/problem+json\r\n"
    b"connection: close\r\ncontent-length: 94\r\n\r\n"
    b'{"type":"urn:attestd:problem:server-busy","title":"The verifier is busy","code":"server-busy"}'
)


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 whose request heads must be complete within `MAX_HEADER_SECONDS` and `MAX_HEADER_BYTES`."""

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first request head; turn the caller away when the process is full."""
        super().connection_made(transport)
        if len(self.connections) > limits.MAX_CONNECTIONS:
            transport.write(_BUSY)
            transport.close()
            return
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head; arm the clock when a kept-alive connection starts another request."""
        if self._in_head:
            if self._head_timer is None:
                self._start_head_timer()
            self._head_bytes += len(data)
            if self._head_bytes > limits.MAX_HEADER_BYTES + limits.MAX_BODY:
                self.transport.close()
                return
        super().data_received(data)
        if self._in_head and self._head_bytes > limits.MAX_HEADER_BYTES:
            self.transport.close()

    def on_headers_complete(self) -> None:
        """The head is complete: its clock stops."""
        self._in_head = False
        self._head_bytes = 0
        self._stop_head_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next bytes belong to another head."""
        self._in_head = True
        super().on_message_complete()

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(limits.MAX_HEADER_SECONDS, self._head_timeout)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_timeout(self) -> None:
        self._head_timer = None
        transport: Any = self.transport
        if transport is not None and not transport.is_closing():
            transport.close()
