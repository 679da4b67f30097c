"""What every attack may ask for: a verifier for each module, devices, both exchanges, and the rule for refusals."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

pytest.register_assert_rewrite("exchanges")

from exchanges import EXCHANGES, Enrolment, Exchange, verifier_in_memory  # noqa: E402
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


@pytest.fixture(params=EXCHANGES, ids=lambda kind: kind.__name__.lower())
def exchange(request: pytest.FixtureRequest, world: World, chip: ChipFactory) -> Exchange:
    """An honest run up to its proof: once an enrolment, once a routine proof."""
    made: Exchange = request.param(world, chip())
    return made


@pytest.fixture
def enrolment(world: World, chip: ChipFactory) -> Enrolment:
    """An enrolment up to its proof."""
    return Enrolment(world, chip())


@pytest.fixture
def refused() -> Callable[..., Any]:
    """`exchanges.refused`: a call is refused for this reason, and nothing else happened."""
    return hold_refused
