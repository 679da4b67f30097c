"""What relying parties may know: trust as it is at this moment, of the devices that are theirs."""

import hashlib
from collections.abc import Iterator

import pytest

from attestd.errors import Refused
from attestd.services.relying import Caller, authenticate, list_devices, trust
from attestd.store import tokens
from attestd.store.tokens import TokenRecord
from store_records import device_name, enrol
from world import World

pytest_plugins = ("attacks.fixtures_pct",)
EVERYWHERE = Caller("gateway", frozenset({"trust:read"}), None)
BERLIN = Caller("gateway", frozenset({"trust:read"}), "berlin")
PARIS = Caller("gateway", frozenset({"trust:read"}), "paris")


@pytest.fixture
def world(sqlite_url: str) -> Iterator[World]:
    """A verifier that does not listen."""
    made = World(sqlite_url)
    yield made
    made.verifier.store.close()


@pytest.mark.parametrize(
    ("state", "late", "expected"),
    [
        ("trusted", False, ("trusted", True)),
        ("trusted", True, ("expired", False)),
        ("suspect", False, ("suspect", False)),
        ("suspect", True, ("expired", False)),
        ("untrusted", False, ("untrusted", False)),
        ("banned", False, ("banned", False)),
        ("retired", True, ("retired", False)),
        ("pending", False, ("pending", False)),
    ],
)
def test_p05_trust_is_the_state_and_the_clock(world: World, state: str, late: bool, expected: tuple[str, bool]) -> None:
    enrol(world.verifier.store, 1, state=state, deadline=world.now() + (-1 if late else 60_000))
    told = trust(world.verifier, device_name(1), caller=EVERYWHERE)
    assert (told.state, told.trusted) == expected


def test_p05_a_state_without_a_deadline_is_not_trusted(world: World) -> None:
    enrol(world.verifier.store, 1, deadline=None)
    assert trust(world.verifier, device_name(1), caller=EVERYWHERE).trusted is False


def test_the_deadline_itself_is_too_late(world: World) -> None:
    now = world.now()
    enrol(world.verifier.store, 1, deadline=now)
    assert trust(world.verifier, device_name(1), caller=EVERYWHERE).trusted is False


@pytest.mark.parametrize("wanted", ["", "a" * 52, "nonsense", "A" * 52, "'; DROP TABLE device; --", "\0", "é" * 52])
def test_t01_what_is_no_device_is_unknown(world: World, wanted: str) -> None:
    with pytest.raises(Refused, match="device-unknown"):
        trust(world.verifier, wanted, caller=EVERYWHERE)


def test_t01_a_device_of_another_site_is_unknown(world: World) -> None:
    enrol(world.verifier.store, 1, deadline=world.now() + 60_000)
    assert trust(world.verifier, device_name(1), caller=BERLIN).trusted is True
    with pytest.raises(Refused, match="device-unknown"):
        trust(world.verifier, device_name(1), caller=PARIS)


def test_an_etag_is_the_answers_own(world: World) -> None:
    enrol(world.verifier.store, 1, 2, deadline=world.now() + 60_000)
    tags = [trust(world.verifier, device_name(number), caller=EVERYWHERE).etag for number in (1, 1, 2)]
    assert tags[0] == tags[1] != tags[2]


def test_a_list_is_paged_and_of_the_callers_site(world: World) -> None:
    enrol(world.verifier.store, *range(5))
    first, after = list_devices(world.verifier, caller=BERLIN, after=None, state=None, limit=3)
    rest, end = list_devices(world.verifier, caller=BERLIN, after=after, state="trusted", limit=3)
    assert sorted(line["device_id"] for line in (*first, *rest)) == sorted(device_name(n) for n in range(5))
    assert end is None
    assert list_devices(world.verifier, caller=PARIS, after=None, state=None, limit=3) == ([], None)


@pytest.mark.parametrize(
    "fields", [{"state": "Trusted"}, {"state": ""}, {"after": "x"}, {"after": "\0"}, {"after": ""}]
)
def test_t01_a_hostile_filter_is_malformed(world: World, fields: dict[str, str]) -> None:
    asked: dict[str, str | None] = {"after": None, "state": None, **fields}
    with pytest.raises(Refused, match="message-malformed"):
        list_devices(world.verifier, caller=EVERYWHERE, limit=3, after=asked["after"], state=asked["state"])


@pytest.mark.parametrize(("expires", "revoked"), [(1, None), (None, 1), (1, 1)])
def test_t01_a_token_that_has_ended_opens_nothing(world: World, expires: int | None, revoked: int | None) -> None:
    digest = hashlib.sha256(b"token").digest()
    with world.verifier.store.write() as connection:
        tokens.insert_token(connection, TokenRecord(digest, "gateway", ("trust:read",), None, 1, expires, revoked))
    with pytest.raises(Refused, match="token-invalid"):
        authenticate(world.verifier, digest)
    with pytest.raises(Refused, match="token-invalid"):
        authenticate(world.verifier, bytes(32))


def test_a_token_that_is_valid_says_who_and_where(world: World) -> None:
    digest = hashlib.sha256(b"token").digest()
    end = world.now() + 60_000
    with world.verifier.store.write() as connection:
        tokens.insert_token(connection, TokenRecord(digest, "gateway", ("trust:read",), "berlin", 1, end))
    assert authenticate(world.verifier, digest) == BERLIN
