"""Tunnel addresses: each device has one IPv4 address, one IPv6 address and one name, and nobody else has them (C04).

Proves uniqueness twice: allocations are one at a time (an advisory lock on PostgreSQL, the write lock on SQLite), and the
table's constraints would refuse the second. A revoked device keeps its row; only `release_address` gives an address back,
and nobody else gets it before the cool-down is over. Assumes a transaction of `Store.write()`. Does not tell gateways.
"""

import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from sqlalchemy import Connection, delete, func, select, text, update

from attestd.store import bounds
from attestd.store.errors import AddressesExhausted, NameTaken
from attestd.store.rows import columns, record, values
from attestd.store.tables import VPN_ADDRESS

_LOCK: Final = 0x61747661  # "atva"


@dataclass(frozen=True, slots=True)
class AddressPool:
    """Where addresses come from: IPv4 counted up from the network's start, behind `reserved` addresses for gateways.

    An IPv6 address is the network's prefix and an interface id derived from the device's id, so it can be predicted and
    says nothing else. *Raises* ValueError for an IPv6 network longer than /64.
    """

    ipv4: IPv4Network
    ipv6: IPv6Network
    reserved: int = 16

    def __post_init__(self) -> None:
        if self.ipv6.prefixlen > 64:
            raise ValueError("an interface id needs the lower 64 bits of the IPv6 network")
        if not 1 <= self.reserved < self.ipv4.num_addresses - 1:
            raise ValueError("the IPv4 network has no address behind the reserved ones")

    @property
    def first(self) -> int:
        """Return the first IPv4 address for devices, as a number."""
        return int(self.ipv4.network_address) + self.reserved

    @property
    def last(self) -> int:
        """Return the last IPv4 address for devices (the one before the broadcast address), as a number."""
        return int(self.ipv4.broadcast_address) - 1

    def interface(self, device_id: str, attempt: int) -> bytes:
        """Return the 16 bytes of the device's IPv6 address; `attempt` counts up when another device has it already."""
        seed = f"attestd address v1\0{device_id}\0{attempt}".encode()
        return (int(self.ipv6.network_address) | int.from_bytes(hashlib.sha256(seed).digest()[:8])).to_bytes(16)


@dataclass(frozen=True, slots=True)
class AddressRecord:
    """A device's tunnel addresses and name. `released_at` None: in use, also while the device is revoked."""

    device_id: str
    ipv4: int
    ipv6: bytes
    name: str
    allocated_at: int
    released_at: int | None = None

    @property
    def addresses(self) -> tuple[IPv4Address, IPv6Address]:
        """Return both addresses as such."""
        return IPv4Address(self.ipv4), IPv6Address(self.ipv6)


def load_address(connection: Connection, device_id: str) -> AddressRecord | None:
    """Return the device's row, released or not, or None."""
    query = select(*columns(VPN_ADDRESS, AddressRecord)).where(VPN_ADDRESS.c.device_id == device_id)
    return record(AddressRecord, connection.execute(query).first())


def allocate_address(
    connection: Connection, device_id: str, *, pool: AddressPool, name: str, now: int, cooldown: int
) -> AddressRecord:
    """Return the device's addresses, the ones it has (or had and nobody took) or new ones.

    `cooldown` is the number of milliseconds for which a released address goes to nobody else. Fresh addresses go out
    before released ones, so that a released one rests for as long as the pool allows. Allocations wait for each other
    until the transaction ends: make this its last step. *Raises* NameTaken, AddressesExhausted.
    """
    _one_at_a_time(connection)
    _require_free_name(connection, device_id, name, now - cooldown)
    known = load_address(connection, device_id)
    if known is not None and pool.first <= known.ipv4 <= pool.last:
        return _keep(connection, known, name, now)
    if known is not None:  # of a pool that was configured before
        connection.execute(delete(VPN_ADDRESS).where(VPN_ADDRESS.c.device_id == device_id))
    ipv4 = _next_fresh(connection, pool)
    if ipv4 is None:
        ipv4 = _take_rested(connection, pool, now - cooldown)
    address = AddressRecord(device_id, ipv4, _free_interface(connection, pool, device_id), name, now)
    connection.execute(VPN_ADDRESS.insert(), values(address))
    return address


def release_address(connection: Connection, device_id: str, *, now: int) -> bool:
    """Give the device's address back, for others after the cool-down; return whether it had one."""
    held = (VPN_ADDRESS.c.device_id == device_id) & VPN_ADDRESS.c.released_at.is_(None)
    return connection.execute(update(VPN_ADDRESS).where(held).values(released_at=now)).rowcount == 1


def _one_at_a_time(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def _require_free_name(connection: Connection, device_id: str, name: str, before: int) -> None:
    """Refuse a name that another device has; take it from one whose address was released at or before `before`."""
    other = (VPN_ADDRESS.c.name == name) & (VPN_ADDRESS.c.device_id != device_id)
    # The rested row keeps its place in the pool under a name that nobody else can ask for: its device's id.
    rested = update(VPN_ADDRESS).where(other & (VPN_ADDRESS.c.released_at <= before))
    connection.execute(rested.values(name=VPN_ADDRESS.c.device_id))
    if connection.execute(select(VPN_ADDRESS.c.device_id).where(other)).first() is not None:
        raise NameTaken("another device has this tunnel name")


def _keep(connection: Connection, known: AddressRecord, name: str, now: int) -> AddressRecord:
    """Return the address a device has, taken back if it was released, under its present name."""
    since = known.allocated_at if known.released_at is None else now
    kept = AddressRecord(known.device_id, known.ipv4, known.ipv6, name, since)
    if kept != known:
        connection.execute(update(VPN_ADDRESS).where(VPN_ADDRESS.c.device_id == known.device_id).values(values(kept)))
    return kept


def _next_fresh(connection: Connection, pool: AddressPool) -> int | None:
    """Return the address behind the highest one ever given out, or None when that was the last."""
    inside = VPN_ADDRESS.c.ipv4.between(pool.first, pool.last)
    highest = connection.execute(select(func.max(VPN_ADDRESS.c.ipv4)).where(inside)).scalar()
    fresh = pool.first if highest is None else highest + 1
    return fresh if fresh <= pool.last else None


def _take_rested(connection: Connection, pool: AddressPool, before: int) -> int:
    """Delete the row that was released longest ago, at or before `before`, and return its address."""
    rested = VPN_ADDRESS.c.ipv4.between(pool.first, pool.last) & (VPN_ADDRESS.c.released_at <= before)
    query = select(VPN_ADDRESS.c.device_id, VPN_ADDRESS.c.ipv4).where(rested)
    row = connection.execute(query.order_by(VPN_ADDRESS.c.released_at, VPN_ADDRESS.c.ipv4).limit(1)).first()
    if row is None:
        raise AddressesExhausted("no tunnel address is free")
    connection.execute(delete(VPN_ADDRESS).where(VPN_ADDRESS.c.device_id == row[0]))
    return int(row[1])


def _free_interface(connection: Connection, pool: AddressPool, device_id: str) -> bytes:
    for attempt in range(bounds.MAX_ADDRESS_ATTEMPTS):
        ipv6 = pool.interface(device_id, attempt)
        if connection.execute(select(VPN_ADDRESS.c.device_id).where(VPN_ADDRESS.c.ipv6 == ipv6)).first() is None:
            return ipv6
    raise AddressesExhausted("no IPv6 interface id is free")
