"""Faults on purpose: which functions of the product an honest run calls, and one of them made to fail.

A function is made to fail by exchanging its code, so it fails wherever somebody has imported it to.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

HITS: list[str] = []
"""Grows by one whenever a function that was made to fail is called."""


class ForcedFault(Exception):
    """The fault: no product code can know it, so whoever catches it catches everything."""


@dataclass(frozen=True)
class Target:
    """One function of the product, by the name under which a failing test shows it."""

    name: str
    function: FunctionType


def targets(rooms: tuple[str, ...]) -> dict[CodeType, Target]:
    """Return every function and method of these packages that can be made to fail, by its code."""
    found: dict[CodeType, Target] = {}
    for name, module in sorted(sys.modules.items()):
        if isinstance(module, ModuleType) and name.startswith(rooms):
            for label, function in _functions(module, name):
                if function.__module__ == name and not function.__code__.co_freevars:
                    found[function.__code__] = Target(f"{name}.{label}", function)
    return found


def _functions(holder: Any, module: str) -> Iterator[tuple[str, FunctionType]]:
    for label, value in vars(holder).items():
        if isinstance(value, type):
            if value.__module__ == module and value is not holder:
                yield from ((f"{label}.{inner}", function) for inner, function in _functions(value, module))
            continue
        plain = value
        for unwrap in ("fget", "func", "__func__", "__wrapped__"):
            plain = (
                getattr(plain, unwrap, plain)
                if not isinstance(plain, FunctionType) or unwrap == "__wrapped__"
                else plain
            )
        generated = label.startswith("__") and label != "__post_init__"
        if isinstance(plain, FunctionType) and not generated and not plain.__code__.co_flags & 0x80:
            yield label, plain


def called(
    run: Callable[[], object], among: dict[CodeType, Target], *, until: FunctionType | None = None
) -> list[Target]:
    """Return those of the targets that `run` calls in this thread, in the order of their first call, before `until` is."""
    seen: dict[CodeType, None] = {}
    over: list[bool] = []

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            if until is not None and frame.f_code is until.__code__:
                over.append(True)
            elif not over and frame.f_code in among:
                seen.setdefault(frame.f_code)

    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(None)
    return [among[code] for code in seen]


def _fail(*_arguments: object, **_named: object) -> None:
    faults = __import__("faults")
    faults.HITS.append("hit")
    raise faults.ForcedFault("forced")


@contextmanager
def failing(function: Any) -> Iterator[list[str]]:
    """Make a function raise `ForcedFault` while the block lasts; HITS, which is yielded, grows with every call of it."""
    plain = getattr(function, "__wrapped__", function)
    honest = plain.__code__
    plain.__code__ = _fail.__code__
    try:
        yield HITS
    finally:
        plain.__code__ = honest
