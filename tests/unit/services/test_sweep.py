"""Time passes: who fell silent expires, whoever is in time does not, and the revocation list follows."""

from collections.abc import Iterator

import pytest

from attacks.fixtures_pct import revoked
from attestd.services import sweep
from attestd.services.sweep import expire_silent
from attestd.store import credentials, devices, log
from attestd.store.credentials import CertificateRecord, VpnKeyRecord
from store_records import device_name, enrol
from world import World

pytest_plugins = ("attacks.fixtures_pct",)
SERIAL = 1 << 127 | 11


@pytest.fixture
def world(sqlite_url: str) -> Iterator[World]:
    """A verifier that does not listen."""
    made = World(sqlite_url)
    yield made
    made.verifier.store.close()


def state(world: World, number: int) -> tuple[str, int | None]:
    with world.verifier.store.read() as connection:
        known = devices.load_device(connection, device_name(number))
    assert known is not None
    return known.state.state, known.state.deadline


def test_p05_who_is_past_its_deadline_expires_and_who_is_not_stays(world: World) -> None:
    now = world.now()
    enrol(world.verifier.store, 1, deadline=now - 1)
    enrol(world.verifier.store, 2, deadline=now + 60_000)
    enrol(world.verifier.store, 3, deadline=now - 1, state="suspect")
    assert sorted(expire_silent(world.verifier)) == sorted((device_name(1), device_name(3)))
    assert [state(world, number)[0] for number in (1, 2, 3)] == ["expired", "trusted", "expired"]
    assert state(world, 1)[1] is None
    assert expire_silent(world.verifier) == ()


@pytest.mark.parametrize("kept", ["pending", "admitted", "untrusted", "expired", "banned", "retired"])
def test_a_state_in_which_nothing_is_kept_does_not_expire(world: World, kept: str) -> None:
    enrol(world.verifier.store, 1, deadline=1, state=kept)
    assert expire_silent(world.verifier) == ()
    assert state(world, 1)[0] == kept


def test_who_expires_loses_certificate_and_tunnel_and_the_record_says_why(world: World) -> None:
    deadline = world.now() - 1
    enrol(world.verifier.store, 1, deadline=deadline)
    device = device_name(1)
    with world.verifier.store.write() as connection:
        text = credentials.serial_text(SERIAL)
        credentials.insert_certificate(connection, CertificateRecord(text, device, 0, world.now() + 7_200_000, b"der"))
        credentials.insert_vpn_key(connection, VpnKeyRecord("wireguard", bytes(32), device, 1))
    expire_silent(world.verifier)
    with world.verifier.store.read() as connection:
        assert credentials.active_vpn_keys(connection, device) == ()
        latest = log.list_transitions(connection, device_id=device)[0]
    assert (latest.event, latest.actor, latest.cause) == ("silent", "clock", {"deadline": deadline})
    with world.listening():
        assert SERIAL in revoked(world)


def test_t04_a_fleet_that_falls_silent_at_once_expires_in_batches(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_BATCH", 4)
    enrol(world.verifier.store, *range(1, 12), deadline=1)
    assert len(expire_silent(world.verifier)) == 11
    assert {state(world, number)[0] for number in range(1, 12)} == {"expired"}
