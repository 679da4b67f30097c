"""The one file that reads the clock and the random source; everything else takes both as arguments."""

import os
import time


def now_ms() -> int:
    """Return the time in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def random_bytes(count: int) -> bytes:
    """Return `count` unpredictable bytes."""
    return os.urandom(count)
