"""Accepting TLS connections so that those who never greet us cannot keep out those who do.

Between a connection's first packet and the end of its handshake nobody knows whose it is, and no bound of the protocol above
applies. Here a handshake has its time, the number of handshakes has its bound, and when descriptors run short the oldest
handshake ends for the newest: an honest one is over within a second. Assumes Linux and uvloop.
"""

import asyncio
import errno
import resource
import socket
import ssl
from collections.abc import Callable, Collection
from typing import Any, Final

import structlog
import uvloop

from attestd.protocol import limits

_log = structlog.get_logger("attestd.listening")

_ACCEPTS: Final = 32
"""Connections that are accepted before other work has its turn, and before those that were ended have given their place back."""
_PAUSE: Final = 0.1
"""Seconds without accepting when the system has no descriptor left."""
_SCARCE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Factory = Callable[[], asyncio.Protocol]


def raise_descriptors() -> None:
    """Allow this process as many descriptors as the system lets it have, and warn where that is too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < limits.MAX_CONNECTIONS + limits.RESERVED_DESCRIPTORS:
        _log.warning(
            "few descriptors",
            limit=hard,
            needed=limits.MAX_CONNECTIONS + limits.RESERVED_DESCRIPTORS,
            advice="raise LimitNOFILE (systemd) or ulimit -Hn",
        )


class EventLoop(uvloop.Loop):
    """uvloop, whose servers over TLS are `Listener`s."""

    async def create_server(self, protocol_factory: Factory, *where: Any, **options: Any) -> Any:  # type: ignore[override]
        """Listen; without TLS, which tests alone use, as uvloop does."""
        if options.get("ssl") is None:
            return await super().create_server(protocol_factory, *where, **options)
        context: ssl.SSLContext = options.pop("ssl")
        given, backlog = options.pop("sock", None), options.pop("backlog", 2048)
        sockets = [given] if given is not None else _bind(*where, **options)
        for one in sockets:
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is accepted inherits it
            one.listen(backlog)
        return Listener(self, sockets, protocol_factory, context)


def _bind(host: str | None = None, port: int = 0) -> list[socket.socket]:
    """Return sockets on every address of a host. Raises OSError."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    for family, address in dict.fromkeys((one[0], one[4][:2]) for one in found):
        try:
            bound.append(socket.create_server(address, family=family))
        except OSError:
            for one in bound:
                one.close()
            raise
    return bound


class Listener:
    """The server of some listening sockets, as asyncio's are: `sockets`, `close`, `wait_closed`."""

    def __init__(
        self, loop: EventLoop, sockets: list[socket.socket], factory: Factory, context: ssl.SSLContext
    ) -> None:
        self.sockets = sockets
        self._loop = loop
        self._factory = factory
        self._context = context
        self._greeting: dict[asyncio.Task[None], socket.socket] = {}
        self._established: Collection[object] = ()
        self._room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - limits.RESERVED_DESCRIPTORS
        self._closed = False
        self._listen()

    def close(self) -> None:
        """Accept nobody any more; handshakes end."""
        self._closed = True
        for one in self.sockets:
            self._loop.remove_reader(one)
            one.close()
        for task in self._greeting:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until the last handshake has ended."""
        await asyncio.gather(*self._greeting, return_exceptions=True)

    def _listen(self) -> None:
        if not self._closed:
            for one in self.sockets:
                self._loop.add_reader(one, self._accept, one)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTS):
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _SCARCE:
                    self._pause(error)
                    return
                continue  # that caller has gone again
            self._greet(accepted)

    def _pause(self, error: OSError) -> None:
        """Let descriptors become free: the oldest handshakes end, and nobody is accepted for a moment."""
        _log.warning("not accepting", why=error.strerror, handshakes=len(self._greeting))
        for task in list(self._greeting)[:_ACCEPTS]:
            self._end(task)
        for one in self.sockets:
            self._loop.remove_reader(one)
        self._loop.call_later(_PAUSE, self._listen)

    def _greet(self, accepted: socket.socket) -> None:
        handshakes = len(self._greeting)
        if handshakes >= limits.MAX_HANDSHAKES or handshakes + len(self._established) >= self._room:
            if not handshakes:
                accepted.close()
                return
            self._end(next(iter(self._greeting)))
        accepted.setblocking(False)
        task = self._loop.create_task(self._handshake(accepted))
        self._greeting[task] = accepted
        task.add_done_callback(self._over)

    async def _handshake(self, accepted: socket.socket) -> None:
        try:
            _, protocol = await self._loop.connect_accepted_socket(
                self._factory,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=limits.MAX_HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=limits.MAX_HANDSHAKE_SECONDS,
            )
        except OSError:  # TLS errors and timeouts are among them: whoever it was is gone
            accepted.close()
        else:
            self._established = getattr(protocol, "connections", ())  # uvicorn's set of all that are open

    def _end(self, task: asyncio.Task[None]) -> None:
        """End a handshake; it is no longer counted."""
        accepted = self._greeting.pop(task)
        task.cancel()
        accepted.close()

    def _over(self, task: asyncio.Task[None]) -> None:
        self._greeting.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("handshake failed", why=repr(error)[:300])
