"""The service: attempt, sleep, attempt again, until the service manager says stop.

Reads the clock and obeys signals, because nothing below may. Assumes that it runs in the main thread of its process. A
verifier that is absent, a TPM that is busy and a disk that is full all pass: none of them ends this loop.
"""

import ctypes
import gc
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, NoReturn, TypeVar

from attestd_agent.attempt import Agent, Attempt, Logger, Transport
from attestd_agent.errors import Problem
from attestd_agent.machine import Event, Memory, TimerFired, Wanted

M = TypeVar("M")

SLICE_SECONDS: Final = 30.0
"""Longest uninterrupted sleep: a machine that was suspended proves itself at most this long after it wakes."""


class Stopped(BaseException):
    """The service manager asked the agent to end."""


class Signals:
    """SIGTERM and SIGINT end the agent, SIGHUP asks for a proof now."""

    def __init__(self) -> None:
        """Install nothing yet."""
        self.wanted = False
        self._stop = False
        self._interruptible = False
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def install(self) -> None:
        """Take over the three signals of this process."""
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.handle)

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Note a signal. *Raises* Stopped where the agent waits for the network or sleeps, and there only."""
        if number == signal.SIGHUP:
            self.wanted = True
            return
        self._stop = True
        if self._interruptible:
            raise Stopped

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a signal end the agent at any moment in here: no TPM command and no write to the disk is under way."""
        self.check()
        self._interruptible = True
        try:
            yield
        finally:
            self._interruptible = False

    def check(self) -> None:
        """*Raises* Stopped if the agent was asked to end."""
        if self._stop:
            raise Stopped

    def sleep(self, seconds: float, *, beat: Callable[[], None]) -> bool:
        """Sleep, also through a suspend of the machine, and call `beat` at times. Return whether SIGHUP ended it.

        *Raises* Stopped.
        """
        end = _awake() + seconds
        while not self.wanted:
            left = end - _awake()
            if left <= 0:
                return False
            beat()
            with self.interruptible():
                select.select([self._wake], [], [], min(left, SLICE_SECONDS))
            with suppress(BlockingIOError):
                os.read(self._wake, 4096)
        self.wanted = False
        return True


class Interruptible:
    """A transport whose exchanges a signal may end."""

    def __init__(self, inner: Transport, signals: Signals) -> None:
        """Wrap `inner`."""
        self._inner = inner
        self._signals = signals

    def ask(self, path: str, body: bytes, *, answer: type[M]) -> M | Problem:
        """Ask, and end with Stopped where the agent is told to end."""
        with self._signals.interruptible():
            return self._inner.ask(path, body, answer=answer)

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()


def once(agent: Agent, *, start: Event | None = None) -> Attempt:
    """Make one attempt and return how it ended. *Raises* KeystoreRefused, ConfigurationError."""
    return agent.attempt(Memory(), start or agent.begin())


def forever(agent: Agent, signals: Signals, *, log: Logger) -> NoReturn:
    """Prove the device again and again. *Raises* Stopped when told to end, KeystoreRefused at the start."""
    event: Event = agent.begin()
    memory = Memory()
    notify("READY=1")
    while True:
        signals.check()
        attempt = agent.attempt(memory, event)
        memory = attempt.memory
        log_attempt(attempt, log)
        give_back()
        notify(f"STATUS={attempt.report.outcome.value}: {attempt.report.code}")
        wanted = signals.sleep(attempt.seconds, beat=lambda: notify("WATCHDOG=1"))
        event = Wanted() if wanted else TimerFired()


def log_attempt(attempt: Attempt, log: Logger) -> None:
    """Write one line for an attempt, and one for each finding."""
    report = attempt.report
    log(
        report.outcome.value,
        code=report.code,
        detail=report.detail,
        advice=report.advice,
        again_in=round(attempt.seconds, 1),
    )
    for finding in report.findings:
        log(
            "finding",
            code=finding.code,
            claim=finding.claim,
            component=finding.component,
            expected=finding.expected,
            pcr=finding.pcr,
            event=finding.event,
        )


def notify(state: str) -> None:
    """Tell the service manager, where there is one (sd_notify(3)); never fails."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect("\0" + address[1:] if address[0] == "@" else address)
        sock.sendall(state.encode())


def give_back() -> None:
    """Return the memory that is free in this process to the system: imports and an enrolment leave 5 MB behind.

    Does no more than collect where the C library has no malloc_trim(3).
    """
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _awake() -> float:
    """Return seconds since boot, with the time that the machine was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
