"""A client that costs little: raw sockets, many connections, bodies made ahead of time; and a server in its own process."""

import asyncio
import multiprocessing
import random
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any


def _post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/cbor\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    at = head.lower().index(b"content-length: ") + 16
    await reader.readexactly(int(head[at : head.index(b"\r\n", at)]))
    return int(head[9:12])


async def _drive(
    port: int, queue: Iterator[bytes], path: str, taken: list[float], context: ssl.SSLContext | None
) -> int:
    failed = 0
    streams = None
    for body in queue:
        begin = time.perf_counter()
        if streams is None:
            name = "localhost" if context else None
            streams = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        streams[1].write(_post(path, body))
        failed += await _answer(streams[0]) != 200
        if context is not None:  # the measurement of new connections
            streams[1].close()
            streams = None
        taken.append(time.perf_counter() - begin)
    if streams is not None:
        streams[1].close()
    return failed


def closed_loop(
    port: int, bodies: Sequence[bytes], *, path: str, connections: int, context: ssl.SSLContext | None = None
) -> tuple[list[float], int]:
    """Send all bodies over so many connections at once; return (durations in seconds, answers that were not 200).

    A body's device is `index modulo connections` apart from its next one, so no device overtakes itself.
    """
    taken: list[float] = []

    async def run() -> int:
        queues = [iter(bodies[start::connections]) for start in range(connections)]
        return sum(await asyncio.gather(*(_drive(port, queue, path, taken, context) for queue in queues)))

    return taken, asyncio.run(run())


def open_loop(
    port: int, bodies: Sequence[bytes], *, path: str, rate: float, connections: int
) -> tuple[list[float], int]:
    """Send bodies at Poisson times of `rate` a second, whether or not earlier ones were answered."""
    taken: list[float] = []

    async def run() -> int:
        pool: asyncio.Queue[Any] = asyncio.Queue()
        for _ in range(connections):
            pool.put_nowait(await asyncio.open_connection("127.0.0.1", port))
        drawn = random.Random(7)
        due = time.perf_counter()
        tasks = []
        for body in bodies:
            due += drawn.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(one(pool, body, due)))
        return sum(await asyncio.gather(*tasks))

    async def one(pool: asyncio.Queue[Any], body: bytes, due: float) -> int:
        reader, writer = await pool.get()
        writer.write(_post(path, body))
        status = await _answer(reader)
        pool.put_nowait((reader, writer))
        taken.append(time.perf_counter() - due)
        return int(status != 200)

    return taken, asyncio.run(run())


class Meter:
    """CPU time of another process."""

    def __init__(self, pid: int) -> None:
        # The process's CPU clock (Linux, CPUCLOCK_SCHED) counts nanoseconds where /proc counts hundredths of a second.
        self._clock = (~pid << 3) | 2
        self._begin = time.clock_gettime(self._clock)
        self._wall = time.perf_counter()

    def read(self) -> tuple[float, float]:
        """Return (CPU seconds, wall seconds) since the beginning."""
        return time.clock_gettime(self._clock) - self._begin, time.perf_counter() - self._wall


@contextmanager
def in_process(target: Any, *arguments: Any) -> Iterator[tuple[int, Connection]]:
    """Run `target(pipe, *arguments)` in a process of its own; yield (pid, pipe)."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    assert process.pid is not None
    try:
        yield process.pid, ours
    finally:
        process.terminate()
        process.join(10)
