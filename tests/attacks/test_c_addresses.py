"""Tunnel addresses and names under concurrency and after release: no two devices ever have the same."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network, IPv6Network

import pytest

from attacks.fixtures_pct import credentials_of, on_stage, refused, second_verifier, turned_away
from attestd.changes.inventory import InventoryEntry, inventory_document
from attestd.lifecycle.table import Event
from attestd.protocol.messages import Enrolled
from attestd.services import custody
from attestd.services.context import Tunnel
from attestd.store.addresses import AddressPool
from softchip import SoftChip
from world import GATEWAY, PROFILE, Problem, World

pytest_plugins = ("attacks.fixtures_pct",)

THREE = Tunnel(
    GATEWAY, AddressPool(IPv4Network("100.64.0.0/29"), IPv6Network("fd00:a77e:57d0::/64"), reserved=4), 60_000
)
"""A pool of three addresses that rest for a minute."""


def crowd(fleet: World, count: int) -> list[SoftChip]:
    """Announce this many devices of one image, by one change."""
    chips = [SoftChip(fleet.now_s) for _ in range(count)]
    entries = [InventoryEntry(chip.device_id, f"gate-{n}", "harbour", PROFILE) for n, chip in enumerate(chips)]
    fleet.change("inventory", "inventory", inventory_document(entries))
    fleet.golden(chips[0])
    return chips


def enrol_at_once(fleets: Sequence[World], chips: Sequence[SoftChip]) -> list[Enrolled | Problem]:
    """Enrol all devices at the same moment, spread over the verifiers."""
    start = threading.Barrier(len(chips))

    def enrol(number: int) -> Enrolled | Problem:
        start.wait()
        try:
            return fleets[number % len(fleets)].enrol(chips[number])
        except Problem as problem:
            return problem

    with ThreadPoolExecutor(len(chips)) as threads:
        return list(threads.map(enrol, range(len(chips))))


def held(fleet: World) -> list[tuple[int, bytes, str]]:
    """Return (IPv4, IPv6, name) of every row of the table of addresses."""
    with fleet.verifier.store.read() as connection:
        rows = connection.exec_driver_sql("SELECT ipv4, ipv6, name FROM vpn_address").all()
    return [(int(row[0]), bytes(row[1]), str(row[2])) for row in rows]


@pytest.fixture
def small(sqlite_url: str, journal: object) -> Iterator[World]:
    """A verifier whose pool has three addresses."""
    with on_stage(World(sqlite_url, tunnel=THREE)) as made:
        yield made
    made.verifier.store.close()


@pytest.mark.attack("C04")
def test_c04_devices_that_enrol_at_once_at_two_verifiers_have_addresses_and_names_of_their_own(
    fleet_on_both: World,
) -> None:
    chips = crowd(fleet_on_both, 24)
    with second_verifier(fleet_on_both) as other:
        enrolled = enrol_at_once((fleet_on_both, other), chips)
    assert [one.state for one in enrolled if isinstance(one, Enrolled)] == ["trusted"] * 24
    told = [address for one in enrolled if isinstance(one, Enrolled) for address in one.vpn[0].addresses]
    assert len(set(told)) == 48
    rows = held(fleet_on_both)
    assert [len({row[place] for row in rows}) for place in range(3)] == [24, 24, 24]
    assert {row[2] for row in rows} == {f"gate-{number}" for number in range(24)}


@pytest.mark.attack("C04", reason="vpn-key-in-use")
def test_c04_of_devices_that_show_one_tunnel_key_at_once_one_has_it(fleet_on_both: World) -> None:
    chips = crowd(fleet_on_both, 6)
    for chip in chips[1:]:
        chip.wireguard = chips[0].wireguard
    outcomes = enrol_at_once((fleet_on_both,), chips)
    assert sum(isinstance(one, Enrolled) for one in outcomes) == 1
    assert {one.code for one in outcomes if isinstance(one, Problem)} == {"vpn-key-in-use"}
    assert len(held(fleet_on_both)) == 1


@pytest.mark.attack("C04", reason="addresses-exhausted")
def test_c04_a_pool_that_is_used_up_gives_nobody_a_second_hand_address(small: World) -> None:
    chips = crowd(small, 6)
    outcomes = enrol_at_once((small,), chips)
    assert sum(isinstance(one, Enrolled) for one in outcomes) == 3
    assert {one.code for one in outcomes if isinstance(one, Problem)} == {"addresses-exhausted"}
    assert len({row[0] for row in held(small)}) == 3
    losers = [chip for chip, outcome in zip(chips, outcomes, strict=True) if isinstance(outcome, Problem)]
    assert [credentials_of(small, chip) for chip in losers] == [0, 0, 0], "and no certificate either"


@pytest.mark.attack("C04", reason="addresses-exhausted")
def test_c04_a_released_address_rests_before_another_device_has_it(small: World) -> None:
    first, second, third, newcomer = crowd(small, 4)
    given = {chip.device_id: small.enrol(chip).vpn[0].addresses for chip in (first, second, third)}
    custody.decide(small.verifier, first.device_id, Event.RETIRED, actor="alice", reason="sold")
    with refused(small, "addresses-exhausted"):
        small.enrol(newcomer)
    small.pass_time(59)
    with refused(small, "addresses-exhausted"):
        small.enrol(newcomer)
    small.pass_time(2)
    address = small.enrol(newcomer).vpn[0].addresses
    assert address[0] == given[first.device_id][0]
    assert address[1] != given[first.device_id][1]


@pytest.mark.attack("C04", reason="addresses-exhausted")
def test_c04_a_device_that_lost_its_trust_keeps_its_address_from_others(small: World) -> None:
    first, second, third, newcomer = crowd(small, 4)
    given = [small.enrol(chip).vpn[0].addresses for chip in (first, second, third)]
    custody.decide(small.verifier, first.device_id, Event.BANNED, actor="alice", reason="stolen")
    small.pass_time(3600)
    with refused(small, "addresses-exhausted"):
        small.enrol(newcomer)
    custody.decide(small.verifier, first.device_id, Event.UNBANNED, actor="alice", reason="found")
    first.renew_keys()
    assert small.enrol(first).vpn[0].addresses == given[0]


@pytest.mark.attack("C04", reason="inventory-claimed")
def test_c04_a_name_that_moves_to_another_device_is_not_had_by_two(fleet: World) -> None:
    first, second = SoftChip(fleet.now_s), SoftChip(fleet.now_s)
    fleet.golden(first)
    fleet.announce(first, "gate-1")
    fleet.enrol(first)
    moved = [
        InventoryEntry(first.device_id, "gate-9", "harbour", PROFILE),
        InventoryEntry(second.device_id, "gate-1", "harbour", PROFILE),
    ]
    fleet.change("inventory", "inventory", inventory_document(moved))
    with turned_away("inventory-claimed"):
        fleet.enrol(second)
    assert [row[2] for row in held(fleet)] == ["gate-1"]
    first.renew_keys()
    fleet.enrol(first)
    assert fleet.enrol(second).state == "trusted"
    assert sorted(row[2] for row in held(fleet)) == ["gate-1", "gate-9"]
