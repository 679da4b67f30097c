"""Somebody who was an operator, and a withdrawal that meets an enrolment: whoever decides decides now."""

import datetime
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from attestd.changes.errors import ChangeRefused
from attestd.changes.inventory import InventoryEntry, inventory_document
from attestd.changes.operators import parse_operators, sign_change
from attestd.changes.statement import Change
from attestd.services import enrol, proposals
from attestd.services.policy import PolicySource
from attestd.store import devices
from pki_world import TRUST_DOMAIN
from softchip import SoftChip
from world import Operator, Problem, World

DAY_MS = 86_400_000


def ended(operator: Operator, at_ms: int) -> str:
    """The line of an operator whose key ended at a time."""
    moment = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC).strftime("%Y%m%d%H%M%SZ")
    return operator.line.replace('namespaces="attestd-change"', f'namespaces="attestd-change",valid-before="{moment}"')


@pytest.mark.attack("P02", reason="approval-threshold")
@pytest.mark.parametrize(
    ("proposed_days_ago", "code"), [(101, "change-time"), (1, "operators-malformed"), (-1, "change-time")]
)
def test_p02_an_operator_who_has_left_approves_nothing(tmp_path: Path, proposed_days_ago: int, code: str) -> None:
    alice, mallory = Operator("alice"), Operator("mallory")
    with World(f"sqlite:///{tmp_path}/attestd.db").listening() as world:
        now = world.now()
        operators = parse_operators(f"{alice.line}\n{ended(mallory, now - DAY_MS // 2)}", threshold=2)
        source = PolicySource(operators, fleet=TRUST_DOMAIN, now=world.now)
        with world.verifier.store.read() as connection:
            book = source.book(connection)
        chip = SoftChip(world.now_s)
        body = inventory_document([InventoryEntry(chip.device_id, "rogue", "harbour", "edge")])
        made = Change(1, "inventory", "inventory", body, book.digest, "alice", now - proposed_days_ago * DAY_MS)
        signatures = (sign_change(made, alice.pem), sign_change(made, mallory.pem))
        with pytest.raises(ChangeRefused) as refused:
            proposals.submit(world.verifier, operators, made, signatures=signatures)
        assert refused.value.code == code
        with world.verifier.store.read() as connection:
            assert proposals.listed(connection) == ()


def test_p02_two_operators_who_are_still_there_approve(tmp_path: Path) -> None:
    with World(f"sqlite:///{tmp_path}/attestd.db", threshold=2).listening() as world:
        operators = parse_operators("\n".join(one.line for one in world.operators), threshold=2)
        chip = SoftChip(world.now_s)
        body = inventory_document([InventoryEntry(chip.device_id, "gate", "harbour", "edge")])
        made = proposals.draft(world.verifier, "inventory", "inventory", body=body, proposer="alice")
        signatures = tuple(sign_change(made, one.pem) for one in world.operators)
        assert proposals.submit(world.verifier, operators, made, signatures=signatures).applied_at is not None


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """A verifier on each database."""
    with World(database_url).listening() as made:
        yield made
        made.verifier.store.close()


@pytest.mark.attack("K11", reason="inventory-withdrawn")
def test_k11_withdrawn_while_its_first_enrolment_is_being_stored(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    chip = SoftChip(world.now_s)
    world.announce(chip)
    world.golden(chip)
    inside, go, told = threading.Event(), threading.Event(), []
    real = enrol.judge

    def slow(*arguments: object, **named: object) -> object:
        inside.set()
        go.wait(3)
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(enrol, "judge", slow)

    def enrolling() -> None:
        try:
            told.append(world.enrol(chip).state)
        except Problem as problem:
            told.append(problem.code)

    def withdrawing() -> None:
        operators = parse_operators("\n".join(one.line for one in world.operators), threshold=1)
        body = inventory_document((), [chip.device_id])
        made = proposals.draft(world.verifier, "inventory", "inventory", body=body, proposer="alice")
        proposals.submit(world.verifier, operators, made, signatures=(sign_change(made, world.operators[0].pem),))

    threads = [threading.Thread(target=enrolling), threading.Thread(target=withdrawing)]
    threads[0].start()
    assert inside.wait(5)
    threads[1].start()
    threads[1].join(0.5)
    go.set()
    for thread in threads:
        thread.join(10)
    with world.verifier.store.read() as connection:
        known = devices.load_device(connection, chip.device_id)
    assert known is None or known.state.state != "trusted"
    assert told
