from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from attestd.store import AddressesExhausted, NameTaken, Store, addresses
from attestd.store.addresses import AddressPool, AddressRecord
from store_records import device_name, enrol

WIDE = AddressPool(IPv4Network("100.64.0.0/10"), IPv6Network("fd00:1:2::/48"))
NARROW = AddressPool(IPv4Network("100.64.0.0/29"), IPv6Network("fd00:1:2::/48"), reserved=4)  # .4, .5, .6
COOLDOWN = 1_000


def allocate(
    store: Store, number: int, *, pool: AddressPool = NARROW, now: int = 0, name: str | None = None
) -> AddressRecord:
    with store.write() as connection:
        return addresses.allocate_address(
            connection, device_name(number), pool=pool, name=name or f"edge-{number}", now=now, cooldown=COOLDOWN
        )


def release(store: Store, number: int, now: int) -> bool:
    with store.write() as connection:
        return addresses.release_address(connection, device_name(number), now=now)


def test_the_first_address_lies_behind_the_reserved_ones(store: Store) -> None:
    enrol(store, 1)
    address = allocate(store, 1, pool=WIDE)
    assert address.addresses[0] == IPv4Address("100.64.0.16")
    assert address.addresses[1] in WIDE.ipv6
    assert address.addresses[1] == IPv6Address(WIDE.interface(device_name(1), 0))


def test_a_device_keeps_its_address(store: Store) -> None:
    enrol(store, 1, 2)
    first = allocate(store, 1, now=5)
    allocate(store, 2)
    assert allocate(store, 1, now=50) == first
    with store.read() as connection:
        assert addresses.load_address(connection, device_name(1)) == first


def test_c04_devices_that_ask_at_once_get_addresses_of_their_own(database_url: str) -> None:
    stores = [Store.open(database_url) for _ in range(4)]
    enrol(stores[0], *range(40))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: allocate(stores[number % 4], number, pool=WIDE), range(40)))
    assert len({address.ipv4 for address in found}) == 40
    assert len({address.ipv6 for address in found}) == 40
    assert max(address.ipv4 for address in found) - min(address.ipv4 for address in found) == 39
    for store in stores:
        store.close()


def test_c04_one_device_that_asks_many_times_at_once_gets_one_address(store: Store) -> None:
    enrol(store, 1)
    with ThreadPoolExecutor(6) as pool:
        found = set(pool.map(lambda _: allocate(store, 1), range(6)))
    assert len(found) == 1


def test_c04_a_name_belongs_to_one_device(store: Store) -> None:
    enrol(store, 1, 2)
    allocate(store, 1, name="router")
    with pytest.raises(NameTaken):
        allocate(store, 2, name="router")
    release(store, 1, now=10)
    with pytest.raises(NameTaken):
        allocate(store, 2, name="router", now=10 + COOLDOWN - 1)
    taken = allocate(store, 2, name="router", now=10 + COOLDOWN)
    assert taken.name == "router"
    with store.read() as connection:
        before = addresses.load_address(connection, device_name(1))
    assert before is not None
    assert before.name == device_name(1)


def test_c04_an_exhausted_pool_is_an_error_and_changes_nothing(store: Store) -> None:
    enrol(store, *range(4))
    given = [allocate(store, number).addresses[0] for number in range(3)]
    assert given == [IPv4Address(f"100.64.0.{last}") for last in (4, 5, 6)]
    with pytest.raises(AddressesExhausted):
        allocate(store, 3)
    with store.read() as connection:
        assert addresses.load_address(connection, device_name(3)) is None


def test_c04_a_released_address_rests_before_another_device_gets_it(store: Store) -> None:
    enrol(store, *range(4))
    given = [allocate(store, number) for number in range(3)]
    assert release(store, 1, now=100)
    assert not release(store, 1, now=200)
    with pytest.raises(AddressesExhausted):
        allocate(store, 3, now=100 + COOLDOWN - 1)
    assert allocate(store, 3, now=100 + COOLDOWN).ipv4 == given[1].ipv4
    with pytest.raises(AddressesExhausted):
        allocate(store, 1, now=100 + COOLDOWN)


def test_of_released_addresses_the_one_that_rested_longest_goes_first(store: Store) -> None:
    enrol(store, *range(4))
    given = [allocate(store, number) for number in range(3)]
    release(store, 2, now=1)
    release(store, 0, now=2)
    assert allocate(store, 3, now=9_000).ipv4 == given[2].ipv4


def test_a_fresh_address_goes_before_a_released_one(store: Store) -> None:
    enrol(store, 1, 2)
    first = allocate(store, 1)
    release(store, 1, now=0)
    assert allocate(store, 2, now=9_000).ipv4 == first.ipv4 + 1


def test_a_device_takes_its_own_released_address_back_at_once(store: Store) -> None:
    enrol(store, 1)
    first = allocate(store, 1)
    release(store, 1, now=10)
    again = allocate(store, 1, now=11)
    assert (again.ipv4, again.ipv6, again.released_at, again.allocated_at) == (first.ipv4, first.ipv6, None, 11)


def test_c04_two_devices_with_one_interface_id_get_different_ones(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AddressPool, "interface", lambda _self, _device, attempt: bytes(15) + bytes([attempt]))
    enrol(store, 1, 2)
    assert [allocate(store, number).ipv6[-1] for number in (1, 2)] == [0, 1]


def test_an_address_of_a_former_pool_is_replaced(store: Store) -> None:
    enrol(store, 1)
    allocate(store, 1, pool=AddressPool(IPv4Network("10.0.0.0/24"), IPv6Network("fd00::/64")))
    assert allocate(store, 1, pool=WIDE).addresses[0] in WIDE.ipv4
