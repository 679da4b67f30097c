"""What every attack may ask for: a verifier for each module, devices, both exchanges, and the rule for refusals."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

pytest.register_assert_rewrite("exchanges")

from exchanges import Attestation, Enrolment, Exchange, verifier_in_memory  # noqa: E402
from exchanges import refused as hold_refused  # noqa: E402
from softchip import SoftChip  # noqa: E402
from world import World  # noqa: E402

ChipFactory = Callable[..., SoftChip]
_NUMBERS = count()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A verifier with a SQLite file of its own, whose profile is met by every software chip that has just booted."""
    with verifier_in_memory() as made:
        made.golden(SoftChip(made.now_s))
        yield made


@pytest.fixture
def chip(world: World) -> ChipFactory:
    """A factory of devices that are announced; `chip(announced=False)` makes one that nobody knows."""

    def make(*, announced: bool = True, **fields: Any) -> SoftChip:
        made = SoftChip(world.now_s, **fields)
        if announced:
            world.announce(made, f"gate-{next(_NUMBERS)}")
        return made

    return make


class Regular:
    """One enrolled device of a module, handed from test to test as it was when it enrolled."""

    def __init__(self) -> None:
        self._proof: Attestation | None = None
        self._pristine: dict[str, Any] = {}

    def proof(self, world: World, chip: ChipFactory) -> Attestation:
        """Return its next routine proof; another device's where a test ended its trust or let its time pass."""
        if self._proof is None or not _is_trusted(world, self._proof.chip.device_id):
            self._proof = Attestation(world, chip())
            self._pristine = dict(vars(self._proof.chip))
        device = self._proof.chip
        vars(device).update(self._pristine, registers=dict(self._pristine["registers"]), clock=device.clock)
        self._pristine["registers"] = dict(device.registers)
        return self._proof


def _is_trusted(world: World, device_id: str) -> bool:
    query = "SELECT deadline FROM device_state WHERE state = 'trusted' AND device_id = ?"
    with world.verifier.store.read() as connection:
        row = connection.exec_driver_sql(query, (device_id,)).first()
    return row is not None and row[0] > world.now() + 60_000


@pytest.fixture(scope="module")
def regular() -> Regular:
    """The module's enrolled device."""
    return Regular()


@pytest.fixture(params=["enrolment", "attestation"])
def exchange(request: pytest.FixtureRequest, world: World, chip: ChipFactory, regular: Regular) -> Exchange:
    """An honest run up to its proof: once an enrolment, once a routine proof."""
    return Enrolment(world, chip()) if request.param == "enrolment" else regular.proof(world, chip)


@pytest.fixture
def enrolment(world: World, chip: ChipFactory) -> Enrolment:
    """An enrolment up to its proof."""
    return Enrolment(world, chip())


@pytest.fixture
def refused() -> Callable[..., Any]:
    """`exchanges.refused`: a call is refused for this reason, and nothing else happened."""
    return hold_refused
