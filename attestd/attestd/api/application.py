"""The whole application over TLS: the devices' routes in front, everything else behind, and the passing of time.

Decides nothing. Assumes a verifier that app.py has wired.
"""

import asyncio
import contextlib
import gc
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
import uvicorn

from attestd import clock, journal
from attestd.api.connection import BoundedProtocol
from attestd.api.devices import DeviceRoutes
from attestd.api.http import Receive, Scope, Send
from attestd.api.relying_parties import application
from attestd.config import Configuration
from attestd.errors import Refused
from attestd.protocol import limits
from attestd.services import shadow
from attestd.services.context import Verifier
from attestd.services.sweep import expire_silent

SWEEP_SECONDS = 1.0
"""How long after its deadline a silent device may still look trusted in the record; answers never do."""
SHADOW_SECONDS = 1.0
"""How often what devices proved is held against staged versions, two hundred devices at a time."""
SHADOW_PAUSE_SECONDS = 60.0
"""How long that rests after a failure: whatever is wrong, the devices' own routes say so already."""

_log = structlog.get_logger("attestd")


class Application:
    """The ASGI application: the devices' routes in front, everything else behind."""

    def __init__(self, verifier: Verifier) -> None:
        journal.configure()
        self._verifier = verifier
        self._devices = DeviceRoutes(verifier)
        self._swept = clock.monotonic()
        self._others = application(verifier, is_sweeping=self._is_sweeping)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run for the life of the server."""
        if scope["type"] == "http" and self._devices.handles(scope["path"]):
            await self._devices(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self._others(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self._sweeping():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        self._devices.close()
        await send({"type": "lifespan.shutdown.complete"})

    @contextlib.asynccontextmanager
    async def _sweeping(self) -> AsyncIterator[None]:
        # Threads of their own: looking at a large fleet must not keep the silent from being expired.
        with ThreadPoolExecutor(1, "sweep") as sweeper, ThreadPoolExecutor(1, "shadow") as watcher:
            tasks = [asyncio.create_task(self._sweep(sweeper)), asyncio.create_task(self._shadow(watcher))]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task

    def _is_sweeping(self) -> bool:
        """Return whether time has passed for silent devices lately."""
        return clock.monotonic() - self._swept < limits.MAX_SWEEP_AGE

    async def _sweep(self, executor: ThreadPoolExecutor) -> None:
        self._swept = clock.monotonic()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                expired = await asyncio.get_running_loop().run_in_executor(executor, expire_silent, self._verifier)
            except Exception:  # noqa: BLE001 (a sweep that failed is tried again; one that ended would never expire anybody)
                _log.exception("sweep failed")
            else:
                self._swept = clock.monotonic()
                for device_id in expired:
                    _log.info("expired", device=device_id)

    async def _shadow(self, executor: ThreadPoolExecutor) -> None:
        watch = shadow.Watch()
        while True:
            await asyncio.sleep(SHADOW_SECONDS)
            try:
                await asyncio.get_running_loop().run_in_executor(executor, shadow.look, self._verifier, watch)
            except Refused:
                continue  # policy that does not verify: every proof is refused for it, and says so
            except Exception:  # noqa: BLE001 (nothing depends on it, and it must not end)
                _log.exception("shadow failed")
                await asyncio.sleep(SHADOW_PAUSE_SECONDS)


def server(configuration: Configuration, verifier: Verifier) -> uvicorn.Server:
    """Return a uvicorn server for the verifier, over TLS 1.3 alone."""
    listen = configuration.listen
    settings = transport(
        verifier,
        host=listen.host,
        port=listen.port,
        ssl_certfile=str(configuration.path(listen.certificate)),
        ssl_keyfile=str(configuration.path(listen.key)),
        ssl_context_factory=tls13,
    )
    return _Announced(settings, url=listen.public_url)


class _Announced(uvicorn.Server):
    """A server that says in the log when it answers, and where: whoever starts it by hand would see nothing else."""

    def __init__(self, settings: uvicorn.Config, *, url: str) -> None:
        super().__init__(settings)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and say so."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            _log.info("ready", url=self._url, host=host, port=port)


def transport(verifier: Verifier, **where: Any) -> uvicorn.Config:
    """Return how a verifier is served; `where` says at which address, and with which certificate."""
    return uvicorn.Config(
        Application(verifier),
        loop="attestd.api.listening:EventLoop",
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        timeout_keep_alive=limits.MAX_IDLE_SECONDS,
        timeout_graceful_shutdown=10,
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        **where,
    )


def tls13(_settings: uvicorn.Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Return a context for TLS 1.3 and nothing older."""
    context = default()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # No tickets: devices do not resume sessions, and two tickets are an eighth of what a new connection costs.
    context.num_tickets = 0
    return context


def settle() -> None:
    """Take everything that has been loaded out of Python's cyclic garbage collection: it lives as long as the process.

    Without this, each full collection looks at half a million objects of libraries, and every request waits for it. What
    requests make has hardly any cycles: looking for them less often saves a twentieth of a replay.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
