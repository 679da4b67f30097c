"""Group commit: requests that arrive while a batch is being committed form the next batch.

One worker thread runs the batches, so the event loop never waits for a disk, and a commit's cost is shared by all that it
carries. An answer leaves only after its batch is durable. With one caller at a time a batch is that one request at once:
there is no fixed linger; under load the previous commit is the linger.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

from attestd.errors import Refused
from attestd.protocol.reasons import Reason

Q = TypeVar("Q")
A = TypeVar("A")

MAX_BATCH = 64
"""Requests in one transaction: beyond it the commit's share is under a microsecond and only latency grows."""
MAX_WAITING = 4096
"""Requests that wait; a later one is told to come back."""


class Batcher(Generic[Q, A]):
    """Collects requests and hands them, in batches, to `work` in a thread of `executor`.

    `work` returns one outcome for each request, in order: an answer, or the `Refused` to raise. If it raises, every
    request is tried alone, once: `work` must not do twice what it has done.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Q]], Sequence[A | Refused]],
        executor: Executor,
        *,
        batch: int | None = None,
        waiting: int | None = None,
    ) -> None:
        """Take what is to be done and where; `batch` and `waiting` are bounds for work that takes longer than most."""
        self._batch = batch
        self._most = waiting
        self._work = work
        self._executor = executor
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._running = False

    async def submit(self, request: Q) -> A:
        """Return the answer to one request, after its batch was committed. Raises `Refused`."""
        if len(self._waiting) >= (self._most or MAX_WAITING):
            raise Refused(Reason.SERVER_BUSY, "too many requests wait", retry_after=10)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[A] = loop.create_future()
        self._waiting.append((request, future))
        if not self._running:
            self._running = True
            loop.call_soon(self._start, loop)
        return await future

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        most = self._batch or MAX_BATCH
        batch, self._waiting = self._waiting[:most], self._waiting[most:]
        running = loop.run_in_executor(self._executor, self._run, [request for request, _ in batch])
        running.add_done_callback(lambda done: self._finish(loop, batch, done))

    def _run(self, requests: Sequence[Q]) -> Sequence[A | Exception]:
        """Return the outcomes; where a batch fails as a whole, each request gets its own turn and its own failure."""
        try:
            return self._work(requests)
        except Exception as error:  # noqa: BLE001 (whatever it is: one request must not be able to fail the others)
            if len(requests) == 1:
                return [error]
            return [outcome for request in requests for outcome in self._run([request])]

    def _finish(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[tuple[Q, asyncio.Future[A]]],
        done: "asyncio.Future[Sequence[A | Exception]]",
    ) -> None:
        error = done.exception()  # of the executor itself: it is shutting down
        outcomes: Sequence[A | BaseException] = [error] * len(batch) if error else done.result()
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if future.done():  # the caller went away; what was committed stays committed
                continue
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        if self._waiting:
            self._start(loop)
        else:
            self._running = False
