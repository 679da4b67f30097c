"""The one file that reads the clock and the random source; everything else takes both as arguments."""

import os
import time


def now_ms() -> int:
    """Return the time in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def random_bytes(count: int) -> bytes:
    """Return `count` unpredictable bytes."""
    return os.urandom(count)


def monotonic() -> float:
    """Return seconds since some moment: for durations, which no correction of the time changes."""
    return time.monotonic()


def thread_seconds() -> float:
    """Return the processor time of this thread in seconds; what it waits for does not count."""
    return time.thread_time()
