"""The memory that request bodies may take, all together.

A small body passes always: their number is that of the connections. Beyond that a process has one budget, and when it is used
up, whoever has been sending for longest is given up: an honest body is there within a second, one that is held back never is.
Proves nothing of anybody; knows no address and no name, so that nobody can use up the share of somebody else.
"""

import asyncio
from types import TracebackType
from typing import Self

from attestd.errors import Refused
from attestd.protocol import limits
from attestd.protocol.reasons import Reason


class Bodies:
    """The budget of one process; used by its event loop alone."""

    def __init__(self) -> None:
        self._held = 0
        self._coming: dict[Body, None] = {}

    def hold(self) -> "Body":
        """Return the account of one body: a context that lasts until the request is answered."""
        return Body(self)

    def take(self, body: "Body", count: int) -> None:
        """Take `count` bytes more for a body that is coming. Raises `Refused` (server-busy) when nobody else is to give up."""
        self._coming.setdefault(body)
        while self._held + count > limits.MAX_BODIES_HELD:
            oldest = next(iter(self._coming))
            if oldest is body:
                raise Refused(Reason.SERVER_BUSY, "too many large bodies", retry_after=10)
            oldest.give_up()
        self._held += count

    def arrived(self, body: "Body") -> None:
        """A body is complete: it is given up no longer."""
        self._coming.pop(body, None)

    def release(self, body: "Body", count: int) -> None:
        """Give back what a body took."""
        self._coming.pop(body, None)
        self._held -= count


class Body:
    """What one request holds of the budget."""

    __slots__ = ("_bodies", "_patience", "_taken")

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._taken = 0
        self._patience: asyncio.Timeout | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._taken or self._patience is not None:
            self._bodies.release(self, self._taken)
            self._taken, self._patience = 0, None

    def grow(self, size: int, patience: asyncio.Timeout) -> None:
        """The body has `size` bytes by now; `patience` is what its caller has left. Raises `Refused` (server-busy)."""
        if size > limits.MAX_ANONYMOUS_BODY:
            self._patience = patience
            self._bodies.take(self, size - self._taken)
            self._taken = size

    def arrived(self) -> None:
        """The body is complete."""
        self._bodies.arrived(self)

    def give_up(self) -> None:
        """End the patience with the caller now: another needs the room."""
        if self._patience is not None:
            self._patience.reschedule(0)
        self._bodies.release(self, self._taken)
        self._taken = 0
