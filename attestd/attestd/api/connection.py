"""A connection with deadlines: uvicorn's protocol, which by itself waits for a caller for ever.

Bounds what a caller can hold open before it has proved anything: the time and the bytes of a request head, the time of a
body (also of one that nobody reads, since the answer is known), the time it takes to fetch an answer, the connections of
the process. The bytes of a body are bounded in `api.http`, where their limit is known.
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from attestd.protocol import limits

MAX_PIPELINED: Final = 16
"""Requests that wait behind one being answered. No device and no proxy sends more than one ahead; each costs about 3 KiB."""
LEAST_OUTPUT: Final = 64 * limits.KIB
"""Bytes of an answer that must leave within `MAX_BODY_SECONDS` while more wait: 26 kbit/s."""

_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 30\r\ncontent-type: application/problem+json\r\n"
    b"connection: close\r\ncontent-length: 94\r\n\r\n"
    b'{"type":"urn:attestd:problem:server-busy","title":"The verifier is busy","code":"server-busy"}'
)


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 in which every wait for the caller ends.

    A head has `MAX_HEADER_SECONDS` and `MAX_HEADER_BYTES`. A body has `MAX_BODY_SECONDS` in `api.http`, which answers 408;
    here it has a head's time more, and then the connection ends without a word.
    """

    _input_timer: asyncio.TimerHandle | None = None
    _output_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first request head; turn the caller away when the process is full."""
        super().connection_made(transport)
        if len(self.connections) > limits.MAX_CONNECTIONS:
            transport.write(_BUSY)
            transport.close()
            return
        self._await_input(limits.MAX_HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._stop_input_timer()
        self._stop_output_timer()
        super().connection_lost(exc)

    # --- What the caller sends --------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head; arm the clock when a kept-alive connection starts another request."""
        if self._in_head:
            if self._input_timer is None:
                self._await_input(limits.MAX_HEADER_SECONDS)
            self._head_bytes += len(data)
            if self._head_bytes > limits.MAX_HEADER_BYTES + limits.MAX_BODY:
                self.transport.close()
                return
        super().data_received(data)
        if self._in_head and self._head_bytes > limits.MAX_HEADER_BYTES:
            self.transport.close()

    def on_headers_complete(self) -> None:
        """The head is complete: its clock stops, and the body's starts.

        Raises ValueError for a request too many, which ends the connection: uvicorn queues whatever one piece of input holds.
        """
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests at once")
        self._in_head = False
        self._head_bytes = 0
        self._await_input(limits.MAX_BODY_SECONDS + limits.MAX_HEADER_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Nothing is awaited; the next bytes belong to another head."""
        self._in_head = True
        self._stop_input_timer()
        super().on_message_complete()

    def _await_input(self, seconds: float) -> None:
        self._stop_input_timer()
        self._input_timer = self.loop.call_later(seconds, self._give_up)

    def _stop_input_timer(self) -> None:
        if self._input_timer is not None:
            self._input_timer.cancel()
            self._input_timer = None

    # --- What the caller fetches ------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The caller does not read as fast as it asked: from now on its progress is watched."""
        super().pause_writing()
        self._await_output()

    def resume_writing(self) -> None:
        """The caller has caught up."""
        self._stop_output_timer()
        super().resume_writing()

    def _await_output(self) -> None:
        self._stop_output_timer()
        unsent = self.transport.get_write_buffer_size()
        self._output_timer = self.loop.call_later(limits.MAX_BODY_SECONDS, self._check_output, unsent)

    def _check_output(self, unsent: int) -> None:
        if unsent - self.transport.get_write_buffer_size() < LEAST_OUTPUT:
            self._give_up()
        else:
            self._await_output()

    def _stop_output_timer(self) -> None:
        if self._output_timer is not None:
            self._output_timer.cancel()
            self._output_timer = None

    def _give_up(self) -> None:
        """End the connection at once: closing it politely would wait for a caller who does not read."""
        if self.transport is not None:
            self.transport.abort()
