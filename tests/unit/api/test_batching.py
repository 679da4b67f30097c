"""Group commit: what waits becomes one batch, each gets its own outcome, and nobody's failure is another's."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from attestd.api import batching
from attestd.api.batching import MAX_BATCH, Batcher
from attestd.errors import Refused
from attestd.protocol.reasons import Reason


class Slow:
    """Work that waits to be let go, and remembers its batches."""

    def __init__(self, outcome: Callable[[int], Any] = lambda number: number) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.outcome = outcome

    def __call__(self, requests: Sequence[int]) -> list[Any]:
        self.gate.wait(10)
        self.batches.append(list(requests))
        return [self.outcome(request) for request in requests]


def run(work: Any, numbers: Sequence[int], *, before_release: Callable[[], None] = lambda: None) -> list[Any]:
    """Submit all numbers at once and return the outcomes, exceptions included."""

    async def all_of_them() -> list[Any]:
        with ThreadPoolExecutor(1) as executor:
            batcher: Batcher[int, Any] = Batcher(work, executor)
            tasks = [asyncio.create_task(batcher.submit(number)) for number in numbers]
            for _ in range(5):
                await asyncio.sleep(0)
            before_release()
            work.gate.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(all_of_them())


def test_requests_that_come_together_are_one_batch_and_each_gets_its_own_answer() -> None:
    work = Slow(lambda number: number * 10)
    assert run(work, range(5)) == [0, 10, 20, 30, 40]
    assert work.batches == [[0, 1, 2, 3, 4]]


def test_a_batch_is_bounded_and_the_order_is_kept() -> None:
    work = Slow()
    count = 2 * MAX_BATCH + 3
    assert run(work, range(count)) == list(range(count))
    assert [len(batch) for batch in work.batches] == [MAX_BATCH, MAX_BATCH, 3]
    assert [number for batch in work.batches for number in batch] == list(range(count))


def test_a_lone_request_waits_for_nobody() -> None:
    work = Slow()
    work.gate.set()
    assert run(work, [7]) == [7]


def test_a_refusal_is_raised_for_the_one_it_concerns() -> None:
    work = Slow(lambda number: Refused(Reason.REPLAYED) if number == 2 else number)
    outcomes = run(work, range(4))
    assert [outcomes[0], outcomes[1], outcomes[3]] == [0, 1, 3]
    assert outcomes[2].reason is Reason.REPLAYED


def test_a_request_that_breaks_the_work_fails_alone() -> None:
    def fragile(number: int) -> int:
        if number == 2:
            raise ZeroDivisionError
        return number

    work = Slow(fragile)
    outcomes = run(work, range(4))
    assert [outcomes[0], outcomes[1], outcomes[3]] == [0, 1, 3]
    assert isinstance(outcomes[2], ZeroDivisionError)
    assert run(work, [5]) == [5], "and the next batch is as good as any"


def test_when_everything_fails_everybody_is_told() -> None:
    def broken(number: int) -> int:
        raise OSError(number)

    assert [error.args for error in run(Slow(broken), range(3))] == [(0,), (1,), (2,)]


def test_t04_who_would_wait_too_long_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MAX_WAITING", 3)
    outcomes = run(Slow(), range(6))
    busy = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert {(one.reason, one.retry_after) for one in busy} == {(Reason.SERVER_BUSY, 10)}
    assert len(busy) == 3


def test_a_caller_who_goes_away_takes_nobody_along() -> None:
    async def scene() -> list[Any]:
        work = Slow()
        with ThreadPoolExecutor(1) as executor:
            batcher: Batcher[int, int] = Batcher(work, executor)
            tasks = [asyncio.create_task(batcher.submit(number)) for number in range(3)]
            for _ in range(5):
                await asyncio.sleep(0)
            tasks[1].cancel()
            work.gate.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(scene())
    assert (outcomes[0], outcomes[2]) == (0, 2)
    assert isinstance(outcomes[1], asyncio.CancelledError)
