"""What a process remembers: bounded, and the longest unused goes first."""

import threading

from attestd.services import memory
from attestd.services.memory import Memory


def test_what_was_put_is_found_and_what_was_not_is_none() -> None:
    known: Memory[str, int] = Memory(2)
    known.put("a", 1)
    assert (known.get("a"), known.get("b")) == (1, None)


def test_a_value_is_replaced() -> None:
    known: Memory[str, int] = Memory(2)
    known.put("a", 1)
    known.put("a", 2)
    assert known.get("a") == 2


def test_t04_a_memory_forgets_what_was_used_longest_ago() -> None:
    known: Memory[int, int] = Memory(3)
    for number in (1, 2, 3):
        known.put(number, number)
    known.get(1)
    known.put(4, 4)
    assert [known.get(number) for number in (1, 2, 3, 4)] == [1, None, 3, 4]


def test_t04_a_stranger_cannot_fill_it() -> None:
    known: Memory[int, int] = Memory(100)
    for number in range(10_000):
        known.put(number, number)
    assert sum(known.get(number) is not None for number in range(10_000)) == 100


def test_threads_share_it() -> None:
    known: Memory[int, int] = Memory(50)

    def use(start: int) -> None:
        for number in range(start, start + 500):
            known.put(number, number)
            assert known.get(number) in (number, None)

    threads = [threading.Thread(target=use, args=(start * 100,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(known.get(number) is not None for number in range(1000)) == 50


def test_every_memory_of_a_verifier_is_bounded() -> None:
    for make in (memory.identity_memory, memory.key_memory, memory.boot_memory, memory.refusal_memory):
        assert make()._most <= 65_536
