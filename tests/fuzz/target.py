"""What a fuzz target is, and the one rule for all of them.

Whatever the bytes: the parser returns, or raises an error of its own, within a bound of work. `violation` says how an input breaks
that rule. A target also asserts what must hold of whatever was read (that what can be written again is the same), so a failed
assertion is a finding like any other.
"""

import contextlib
import resource
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

LONGEST: Final = 64 << 10
"""Bytes of one input. Longer ones are the business of the tests of bounds."""
MOST_SECONDS: Final = 0.25
"""Processor time that one input of at most `LONGEST` bytes may take."""
MOST_GROWTH: Final = 192 << 10
"""KiB by which one input may raise the most memory that the process ever had."""

Run = Callable[[bytes], object]
Seeds = Callable[[], Iterable[bytes]]


@dataclass(frozen=True)
class Target:
    """One target: `run` takes the bytes, `own` are the errors it may raise, `seeds` are inputs that it understands.

    `parsers` are the functions of the product that it feeds; `real` are patterns of files that serve as further seeds where
    evidence of real machines lies beside the project; `form` is the structure that mutations respect half of the time, `words`
    are worth inserting.
    """

    run: Run
    own: tuple[type[Exception], ...]
    seeds: Seeds
    parsers: tuple[Callable[..., Any], ...]
    real: tuple[str, ...] = ()
    form: str = "bytes"
    words: tuple[bytes, ...] = ()


class Unbounded(Exception):
    """An input took more work than its size allows."""


def name_of(function: Callable[..., Any]) -> str:
    """Return module:name of a function or method."""
    return f"{function.__module__}:{function.__qualname__}"


def feed(target: Target, data: bytes, *, slower: float = 1.0) -> None:
    """Run one input. *Raises* whatever is no error of the target's own, and `Unbounded`.

    `slower` is how much longer than on a quiet machine, in plain code, it may take.
    """
    most = MOST_SECONDS * slower
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    taken = _timed(target, data)
    if taken > most and (taken := min(taken, _timed(target, data))) > most:
        raise Unbounded(f"{taken:.2f} s for {len(data)} bytes")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    if grown > MOST_GROWTH:
        raise Unbounded(f"{grown >> 10} MiB for {len(data)} bytes")


def _timed(target: Target, data: bytes) -> float:
    began = time.thread_time()
    with contextlib.suppress(*target.own):
        target.run(data)
    return time.thread_time() - began


def violation(target: Target, data: bytes, *, slower: float = 1.0) -> tuple[str, str] | None:
    """Return how an input breaks the rule, or None: what went wrong and where, in one line, and the whole story."""
    try:
        feed(target, data, slower=slower)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        frames = traceback.extract_tb(error.__traceback__)
        ours = [one for one in frames if "/attestd" in one.filename and "/site-packages/" not in one.filename]
        place = (ours or list(frames))[-1]
        file = place.filename.rpartition("/")[2]
        kind = str(error) if isinstance(error, Unbounded) else type(error).__name__
        return f"{kind.split(' ', 1)[-1] if isinstance(error, Unbounded) else kind} at {file}:{place.lineno}", "".join(
            traceback.format_exception(error)
        )
    return None
