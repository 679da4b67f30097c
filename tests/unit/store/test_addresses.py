from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from attestd.store.addresses import AddressPool
from store_records import device_name

POOL = AddressPool(IPv4Network("100.64.0.0/10"), IPv6Network("fd00:1:2::/48"))


def test_devices_get_neither_reserved_nor_broadcast_addresses() -> None:
    assert IPv4Address(POOL.first) == IPv4Address("100.64.0.16")
    assert IPv4Address(POOL.last) == IPv4Address("100.127.255.254")


def test_an_interface_id_depends_on_the_device_and_the_attempt_alone() -> None:
    first = POOL.interface(device_name(1), 0)
    assert first == POOL.interface(device_name(1), 0)
    assert len({first, POOL.interface(device_name(1), 1), POOL.interface(device_name(2), 0)}) == 3
    assert IPv6Address(first) in IPv6Network("fd00:1:2::/64")


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "reserved"),
    [
        ("100.64.0.0/10", "fd00::/65", 16),
        ("100.64.0.0/28", "fd00::/48", 15),
        ("100.64.0.0/28", "fd00::/48", 0),
    ],
)
def test_a_pool_without_room_is_refused(ipv4: str, ipv6: str, reserved: int) -> None:
    with pytest.raises(ValueError, match="IPv"):
        AddressPool(IPv4Network(ipv4), IPv6Network(ipv6), reserved)
