"""What the record says is believed only as far as it fits together, and what a version said in shadow ends with its standing."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from attestd.appraisal.profile import parse_profile_yaml
from attestd.changes.operators import parse_operators, sign_change
from attestd.protocol.messages import RuntimeList
from attestd.services import proposals, shadow
from attestd.services.kept import Hindsight, Kept
from attestd.store import shadow as rows
from attestd.store.kept import kept_proofs
from attestd_agent.lab.firmware import BootImage
from softchip import SoftChip
from tpm_structures import ima_entry
from world import PROFILE, World, golden_profile

APP = hashlib.sha256(b"an application").digest()
ALLOWED = f'runtime:\n  check: required\n  allow:\n    /bin/app: ["sha256:{APP.hex()}"]\n'


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """A verifier without profiles."""
    with World(database_url).listening() as made:
        yield made
        made.verifier.store.close()


def running(world: World) -> SoftChip:
    """Return a device whose runtime list was accepted."""
    chip = SoftChip(world.now_s)
    world.announce(chip)
    world.activate(golden_profile(chip) + ALLOWED)
    boot = hashlib.sha256(b"".join(chip.registers[index] for index in range(10))).digest()
    listed = b""
    for path, digest in ((b"boot_aggregate", boot), (b"/bin/app", APP)):
        entry = ima_entry(path, file_digest=digest)
        data = entry[4 + 20 + 4 + len(b"ima-ng") + 4 :]
        chip.registers[10] = hashlib.sha256(chip.registers[10] + hashlib.sha256(data).digest()).digest()
        listed += entry
    world.enrol(chip, runtime=RuntimeList(0, listed))
    return chip


def test_p02_an_acceptance_of_a_list_that_leads_elsewhere_than_the_quoted_register_counts_for_nothing(
    world: World,
) -> None:
    chip = running(world)
    with world.verifier.store.read() as connection:
        (row,) = kept_proofs(connection, [chip.device_id])
        hindsight = Hindsight(world.verifier, world.verifier.policy.book(connection))
        honest = hindsight.prove(row)
        changed = [hindsight.prove(replace(row, runtime_value=value)) for value in (bytes(32), None)]
    assert isinstance(honest, Kept)
    assert honest.runtime_accepted_by is not None
    assert [one.runtime_accepted_by for one in changed if isinstance(one, Kept)] == [None, None]


def test_verdicts_of_a_staged_version_are_gone_with_the_change_that_activates_it(world: World) -> None:
    running(world)
    other = SoftChip(world.now_s, image=BootImage().with_command_line("quiet"))
    document = parse_profile_yaml(golden_profile(other, version=2)).document
    world.change("profile-stage", PROFILE, document)
    shadow.look(world.verifier, shadow.Watch())
    with world.verifier.store.read() as connection:
        assert [one.outcome for one in rows.list_shadow(connection)] == ["fail"]
    operators = parse_operators("\n".join(one.line for one in world.operators), threshold=1)
    made = proposals.draft(world.verifier, "profile-activate", PROFILE, body=document, proposer="alice")
    signed = (sign_change(made, world.operators[0].pem),)
    assert proposals.submit(world.verifier, operators, made, signatures=signed).applied_at is not None
    with world.verifier.store.read() as connection:
        assert rows.list_shadow(connection) == ()
