"""The source of policy: it believes signatures, learns forwards only, and tells a stale look from a roll-back."""

import threading
from collections.abc import Iterator

import pytest

from attacks.fixtures_pct import fresh_policy, sql
from attestd.errors import Refused
from attestd.services.policy import PolicySource
from attestd.store.routine import policy_head
from softchip import SoftChip
from world import World

pytest_plugins = ("attacks.fixtures_pct",)


@pytest.fixture
def world(sqlite_url: str) -> Iterator[World]:
    """A verifier that does not listen."""
    made = World(sqlite_url)
    yield made
    made.verifier.store.close()


def sequence(world: World, policy: PolicySource) -> int:
    with world.verifier.store.read() as connection:
        return policy.book(connection).sequence


def test_an_empty_database_is_an_empty_book(world: World) -> None:
    assert sequence(world, fresh_policy(world)) == 0


def test_p04_a_change_is_learnt_at_the_next_look(world: World) -> None:
    policy = fresh_policy(world)
    for number in (1, 2, 3):
        world.announce(SoftChip(world.now_s), f"gate-{number}")
        assert sequence(world, policy) == number


def test_p02_a_book_that_was_verified_is_kept_when_the_rest_does_not_verify(world: World) -> None:
    world.announce(SoftChip(world.now_s))
    policy = fresh_policy(world)
    assert sequence(world, policy) == 1
    world.announce(SoftChip(world.now_s), "gate-2")
    sql(world, "UPDATE change SET signatures = '[]' WHERE sequence = 2")
    for _ in range(2):
        with pytest.raises(Refused, match=r"policy-unapproved.*approval-threshold"):
            sequence(world, policy)
    sql(world, "DELETE FROM change WHERE sequence = 2")
    assert sequence(world, policy) == 1


def test_p02_a_chain_that_went_back_is_refused_until_it_is_back(world: World) -> None:
    world.announce(SoftChip(world.now_s))
    world.announce(SoftChip(world.now_s), "gate-2")
    policy = fresh_policy(world)
    sequence(world, policy)
    sql(world, "UPDATE change SET applied_at = NULL WHERE sequence = 2")
    with pytest.raises(Refused, match="the chain ends at 1, 2 was seen"):
        sequence(world, policy)
    sql(world, "UPDATE change SET applied_at = 1 WHERE sequence = 2")
    assert sequence(world, policy) == 2


def test_p03_a_look_that_began_before_a_change_is_refused_and_a_new_one_is_not(world: World) -> None:
    policy = fresh_policy(world)
    world.announce(SoftChip(world.now_s))
    with world.verifier.store.read() as connection:
        assert policy_head(connection) == 1
        world.announce(SoftChip(world.now_s), "gate-2")
        assert sequence(world, policy) == 2
        with pytest.raises(Refused, match="policy-unapproved"):
            policy.book(connection)
    assert sequence(world, policy) == 2


def test_many_threads_learn_the_same_book(world: World) -> None:
    policy, seen = fresh_policy(world), []

    def learn() -> None:
        for _ in range(20):
            seen.append(sequence(world, policy))

    threads = [threading.Thread(target=learn) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(10):
        world.announce(SoftChip(world.now_s), f"gate-{number}")
    for thread in threads:
        thread.join()
    assert len(seen) == 80
    assert sequence(world, policy) == 10


def test_p01_a_profile_that_nobody_activated_has_no_versions(world: World) -> None:
    with world.verifier.store.read() as connection:
        book = world.verifier.policy.book(connection)
    assert world.verifier.policy.profiles(book, "edge") == ()


def test_versions_come_newest_first(world: World) -> None:
    chip = SoftChip(world.now_s)
    world.golden(chip, version=2)
    world.golden(chip, version=5)
    with world.verifier.store.read() as connection:
        book = world.verifier.policy.book(connection)
    assert [profile.version for profile in world.verifier.policy.profiles(book, "edge")] == [5, 2]
