"""Threads for what takes longer than the event loop may wait, each kind with its own and with a bounded queue.

Whoever shares a queue waits for whoever else is in it: kinds that must not wait for one another have workers of their own.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from attestd.errors import Refused
from attestd.protocol.reasons import Reason

T = TypeVar("T")


class Workers:
    """`threads` threads and at most `most` requests that run or wait."""

    def __init__(self, name: str, *, threads: int, most: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._name = name
        self._most = most
        self._present = 0

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Return what `work` returns. Raises what it raises, and `Refused` (server-busy) when too many wait."""
        if self._present >= self._most:
            raise Refused(Reason.SERVER_BUSY, f"too many requests wait: {self._name}", retry_after=10)
        running = asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)
        self._present += 1
        running.add_done_callback(self._leave)
        return await asyncio.shield(running)  # whose caller went away still has its place until the work is done

    def close(self) -> None:
        """End the threads after what they are doing."""
        self._executor.shutdown(wait=True)

    def _leave(self, done: "asyncio.Future[T]") -> None:
        self._present -= 1
        if not done.cancelled():
            done.exception()  # of a caller who went away: nobody else looks at it
