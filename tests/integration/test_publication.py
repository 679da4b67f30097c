"""What was revoked is published, whatever happens in between; and time goes on passing after every failure."""

import time
from collections.abc import Iterator

import pytest

from attestd.api import application
from attestd.services import publish
from attestd.services.issue import withdraw
from attestd.store.errors import StoreUnavailable
from attestd_pki.crl import verify_crl
from softchip import SoftChip
from world import World


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    with World(database_url).listening() as made:
        yield made
        made.verifier.store.close()


def listed(world: World) -> frozenset[int]:
    _, _, der = world.call("GET", "/v1/crl")
    told = verify_crl(der, issuer=world.verifier.issuer.identity, now=world.now_s)
    return frozenset(entry.serial for entry in told.entries)


def test_a_revocation_whose_publication_was_lost_is_published_by_the_sweep(world: World) -> None:
    chip = SoftChip(world.now_s)
    world.announce(chip)
    world.golden(chip)
    world.enrol(chip)
    assert listed(world) == frozenset()
    with world.verifier.store.write() as connection:  # and then the process ends, before it publishes
        assert withdraw(connection, chip.device_id, now=world.now(), reason="privilegeWithdrawn")
    until = time.monotonic() + 10
    while not listed(world):
        assert time.monotonic() < until, "never published"
        time.sleep(0.05)


def test_a_list_that_misses_nothing_is_not_made_again(world: World) -> None:
    publish.current_crl(world.verifier)
    first = publish.current_crl(world.verifier)
    publish.renew_crl(world.verifier)
    assert publish.current_crl(world.verifier) == first


@pytest.mark.parametrize("failure", [StoreUnavailable("away"), RuntimeError("unforeseen")])
def test_the_sweep_goes_on_after_a_failure(
    database_url: str, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    calls: list[int] = []

    def failing(_verifier: object) -> tuple[str, ...]:
        calls.append(1)
        if len(calls) < 3:
            raise failure
        return ()

    monkeypatch.setattr(application, "SWEEP_SECONDS", 0.02)
    monkeypatch.setattr(application, "expire_silent", failing)
    with World(database_url).listening():
        until = time.monotonic() + 10
        while len(calls) < 5:
            assert time.monotonic() < until, f"ended after {len(calls)}"
            time.sleep(0.01)
