"""Staged versions in shadow and drafts on trial, on both databases: what is judged, what is kept, and that nobody pays for it."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from structlog.testing import capture_logs

from attestd.appraisal.policy import Tier
from attestd.appraisal.profile import parse_profile_yaml
from attestd.changes.rules import AdmissionRule, rules_document
from attestd.protocol.messages import Attested
from attestd.services import kept, shadow, simulate
from attestd.services.attest import attest_batch
from attestd.store import devices, log
from attestd.store import shadow as rows
from attestd.store.shadow import ShadowRecord
from attestd_agent.lab.firmware import BootImage
from kept_fleet import fill
from softchip import SoftChip
from world import PROFILE, Problem, World, golden_profile

HEALTHY = BootImage()
OTHER = BootImage().with_command_line("root=/dev/sda1 quiet")
NEWER = BootImage().with_firmware("LAB 9")


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """A verifier that does not listen, whose profile is met by the healthy image."""
    made = World(database_url)
    made.golden(SoftChip(made.now_s))
    yield made
    made.verifier.store.close()


def stage(world: World, image: BootImage, version: int = 2) -> bytes:
    """Stage a version that accepts one image, and return its digest."""
    profile = parse_profile_yaml(golden_profile(SoftChip(world.now_s, image=image), version=version))
    world.change("profile-stage", PROFILE, profile.document)
    return profile.digest


def verdicts(world: World) -> dict[str, ShadowRecord]:
    with world.verifier.store.read() as connection:
        return {one.device_id: one for one in rows.list_shadow(connection)}


def counted(world: World, digest: bytes) -> shadow.Count:
    with world.verifier.store.read() as connection:
        return shadow.count(connection, PROFILE, digest)


def look(world: World, watch: shadow.Watch | None = None) -> tuple[int, list[Any]]:
    """Look until nothing is new; return how many verdicts were stored, and what the log was told."""
    watch, stored = watch or shadow.Watch(), 0
    with capture_logs() as said:
        while found := shadow.look(world.verifier, watch):
            stored += found
    return stored, said


def prove(world: World, chip: SoftChip, *, reboot: BootImage | None = None) -> Any:
    """Let a device prove itself once more, after a reboot into another image if one is given."""
    if reboot is not None:
        chip.boot(reboot)
    now = world.now()
    nonce = world.verifier.challenger.attest_nonce(
        chip.device_id, random=world.verifier.random(16), issued_ms=now, expires_ms=now + 60_000
    )
    make = chip.whole_attest_request if reboot is not None else chip.attest_request
    (outcome,) = attest_batch(world.verifier, [make(nonce)])
    return outcome


def count_calls(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[int]:
    """Count the calls of a function from now on."""
    calls, function = [0], getattr(module, name)

    def counting(*arguments: Any, **fields: Any) -> Any:
        calls[0] += 1
        return function(*arguments, **fields)

    monkeypatch.setattr(module, name, counting)
    return calls


# --- In shadow ------------------------------------------------------------------------------------------------------------


def test_every_device_of_the_profile_is_judged_and_counted(world: World) -> None:
    fill(world, 5, lambda number: OTHER if number == 3 else HEALTHY)
    digest = stage(world, OTHER)
    assert counted(world, digest) == shadow.Count(0, 0, 0, 0, 5)
    stored, _ = look(world)
    assert (stored, counted(world, digest)) == (5, shadow.Count(1, 0, 4, 0, 0))


def test_a_failing_device_is_told_of_once_with_its_reasons(world: World) -> None:
    (chip,) = fill(world, 1, lambda _: HEALTHY)
    stage(world, OTHER)
    _, said = look(world)
    (line,) = [one for one in said if one["event"] == "shadow-refused"]
    assert (line["device"], line["profile"], line["version"], line["outcome"]) == (chip.device_id, PROFILE, 2, "fail")
    assert line["findings"]
    assert look(world, shadow.Watch()) == (0, []), "nor by another process"


def test_a_device_that_boots_what_is_staged_passes_from_then_on(world: World) -> None:
    chip, _ = fill(world, 2, lambda _: HEALTHY)
    world.golden(SoftChip(world.now_s, image=OTHER), version=2)
    stage(world, OTHER, version=3)
    watch = shadow.Watch()
    look(world, watch)
    since = verdicts(world)[chip.device_id].since
    world.pass_time(5)
    assert prove(world, chip, reboot=OTHER).state == "trusted"
    stored, said = look(world, watch)
    assert (stored, [one["event"] for one in said]) == (1, ["shadow-passed"])
    assert (verdicts(world)[chip.device_id].outcome, verdicts(world)[chip.device_id].since > since) == ("pass", True)


def test_a_verdict_stands_since_it_was_first_so(world: World) -> None:
    (chip,) = fill(world, 1, lambda _: HEALTHY)
    world.golden(SoftChip(world.now_s, image=OTHER), version=2)
    stage(world, NEWER, version=3)
    watch = shadow.Watch()
    look(world, watch)
    first = verdicts(world)[chip.device_id]
    world.pass_time(5)
    prove(world, chip, reboot=OTHER)
    stored, said = look(world, watch)
    second = verdicts(world)[chip.device_id]
    assert (stored, said) == (1, [])
    assert (second.since, second.outcome) == (first.since, first.outcome)
    assert (second.attestation > first.attestation, second.log_digest != first.log_digest) == (True, True)


def test_a_device_that_proves_the_same_again_costs_nothing(world: World) -> None:
    chips = fill(world, 3, lambda _: HEALTHY)
    stage(world, OTHER)
    watch = shadow.Watch()
    look(world, watch)
    before = verdicts(world)
    for chip in chips:
        assert prove(world, chip).state == "trusted"
    assert look(world, watch) == (0, [])
    assert verdicts(world) == before


def test_while_nothing_is_staged_nothing_is_judged_and_nothing_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(world, 3, lambda _: HEALTHY)
    watch = shadow.Watch()
    look(world, watch)
    due = count_calls(monkeypatch, rows, "due_for_shadow")
    writes = count_calls(monkeypatch, type(world.verifier.store), "write")
    assert (look(world, watch), due, writes, verdicts(world)) == ((0, []), [0], [0], {})


def test_large_fleets_are_judged_a_batch_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(world, 7, lambda _: HEALTHY)
    stage(world, HEALTHY)
    monkeypatch.setattr(shadow, "BATCH", 3)
    watch = shadow.Watch()
    assert [shadow.look(world.verifier, watch) for _ in range(4)] == [3, 3, 1, 0]


def test_versions_share_a_batch_and_none_waits_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(world, 5, lambda _: HEALTHY)
    digests = [stage(world, HEALTHY, version=version) for version in (2, 3, 4)]
    monkeypatch.setattr(shadow, "BATCH", 2)
    watch = shadow.Watch()
    assert [shadow.look(world.verifier, watch) for _ in range(3)] == [2, 2, 2]
    assert [counted(world, digest).passes for digest in digests] == [2, 2, 2]
    while shadow.look(world.verifier, watch):
        pass
    assert [counted(world, digest).passes for digest in digests] == [5, 5, 5]


def test_several_versions_are_watched_at_once(world: World) -> None:
    fill(world, 2, lambda _: HEALTHY)
    good, bad = stage(world, HEALTHY, version=2), stage(world, OTHER, version=3)
    assert look(world)[0] == 4
    assert (counted(world, good).passes, counted(world, bad).fails) == (2, 2)


@pytest.mark.parametrize("kind", ["profile-activate", "profile-retire"])
def test_what_a_version_said_is_forgotten_when_it_is_staged_no_longer(world: World, kind: str) -> None:
    fill(world, 2, lambda _: HEALTHY)
    profile = parse_profile_yaml(golden_profile(SoftChip(world.now_s), version=2))
    world.change("profile-stage", PROFILE, profile.document)
    watch = shadow.Watch()
    look(world, watch)
    assert len(verdicts(world)) == 2
    world.change(
        kind, PROFILE, profile.document if kind == "profile-activate" else b'{"profile":"edge","versions":[2]}'
    )
    look(world, watch)
    assert verdicts(world) == {}


def test_a_verdict_is_not_stored_when_the_policy_changed_while_it_was_made(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(world, 2, lambda _: HEALTHY)
    stage(world, OTHER)
    judge, waiting = shadow._opinion, [True]

    def interrupted(*arguments: Any) -> Any:
        if waiting:
            waiting.clear()
            world.change("profile-retire", PROFILE, b'{"profile":"edge","versions":[2]}')
        return judge(*arguments)

    monkeypatch.setattr(shadow, "_opinion", interrupted)
    assert shadow.look(world.verifier, shadow.Watch()) == 0
    assert verdicts(world) == {}


def test_two_verifiers_that_watch_one_fleet_store_the_same_once(world: World) -> None:
    fill(world, 40, lambda number: OTHER if number % 2 else HEALTHY)
    digest = stage(world, OTHER)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: shadow.look(world.verifier, shadow.Watch()), range(4)))
    assert counted(world, digest) == shadow.Count(20, 0, 20, 0, 0)


def test_a_profile_that_nobody_can_read_is_left_out_and_the_others_are_watched(world: World) -> None:
    fill(world, 1, lambda _: HEALTHY)
    world.change("profile-stage", PROFILE, b'{"profile":"edge","version":2}')
    digest = stage(world, HEALTHY, version=3)
    look(world)
    assert [one.profile_digest for one in verdicts(world).values()] == [digest]


def test_devices_of_other_profiles_are_not_judged(world: World) -> None:
    chips = fill(world, 2, lambda _: HEALTHY)
    world.announce(chips[0], "elsewhere", profile="other")
    stage(world, HEALTHY)
    look(world)
    assert set(verdicts(world)) == {chips[1].device_id}


def test_a_device_that_no_profile_has_judged_yet_is_judged_by_the_first_that_is_staged(database_url: str) -> None:
    world = World(database_url)
    chip = SoftChip(world.now_s)
    with world.listening():
        world.announce(chip)
        with pytest.raises(Problem, match="policy-missing"):
            world.enrol(chip)
    digest = stage(world, HEALTHY, version=1)
    look(world)
    assert verdicts(world)[chip.device_id].outcome == "pass"
    assert counted(world, digest).passes == 1
    world.verifier.store.close()


def test_the_service_watches_by_itself(world: World) -> None:
    fill(world, 2, lambda _: HEALTHY)
    digest = stage(world, OTHER)
    with world.listening():
        for _ in range(200):
            if counted(world, digest).fails == 2:
                break
            time.sleep(0.05)
    assert counted(world, digest).fails == 2


# --- On trial -------------------------------------------------------------------------------------------------------------


def on_trial(world: World, image: BootImage, *, alone: bool = True, **fields: Any) -> simulate.Report:
    draft = parse_profile_yaml(golden_profile(SoftChip(world.now_s, image=image), version=9))
    with world.verifier.store.read() as connection:
        book = world.verifier.policy.book(connection)
    trial = simulate.trial_of(world.verifier, book, PROFILE, draft=draft, alone=alone, retire=())
    return simulate.simulate(world.verifier, trial, book=book, **fields)


def test_each_distinct_boot_is_read_and_appraised_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    images: Sequence[BootImage] = (HEALTHY, OTHER, NEWER)
    fill(world, 60, lambda number: images[number % 3])
    logs = count_calls(monkeypatch, log, "get_event_log")
    appraised = count_calls(monkeypatch, kept, "appraise_boot")
    report = on_trial(world, OTHER)
    assert report.devices == 60
    assert (logs[0], appraised[0]) == (6, 6), "three boots under two profiles"


def test_devices_that_fare_alike_are_one_group_with_a_bounded_number_of_names(world: World) -> None:
    fill(world, 30, lambda number: HEALTHY if number % 3 else OTHER)
    report = on_trial(world, OTHER, examples=4)
    assert {
        group.effect: (group.devices, len(group.largest[0].examples), len(group.boots)) for group in report.ordered()
    } == {
        "refused": (20, 4, 1),
        "trusted": (10, 4, 1),
    }
    assert not report.harmless


def test_boots_of_each_devices_own_are_still_one_group(world: World) -> None:
    fill(world, 12, lambda number: BootImage().with_command_line(f"root=/dev/sda1 serial={number}"))
    (group,) = on_trial(world, OTHER).ordered()
    assert (group.effect, group.devices, len(group.boots)) == ("unchanged", 12, 12)


def test_what_was_measured_is_told_apart_within_a_group_as_far_as_it_is_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.golden(SoftChip(world.now_s, image=NEWER), version=2)
    serials = (0, 0, 0, 1, 1, 2, 3)
    fill(world, 7, lambda number: BootImage().with_command_line(f"root=/dev/sda1 serial={serials[number]}"))
    (group,) = on_trial(world, OTHER).ordered()
    assert ([variant.devices for variant in group.largest], group.others) == ([3, 2, 1, 1], 0)
    monkeypatch.setattr(simulate, "MAX_VARIANTS", 2)
    (group,) = on_trial(world, OTHER).ordered()
    assert len(group.variants) == 2
    assert sum(variant.devices for variant in group.largest) + group.others == group.devices == 7


def test_more_groups_than_are_told_apart_are_still_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(world, 4, lambda number: HEALTHY if number % 2 else OTHER)
    monkeypatch.setattr(simulate, "MAX_GROUPS", 1)
    report = on_trial(world, OTHER)
    assert (len(report.groups), report.ungrouped, report.devices) == (1, 2, 4)


def test_pages_hold_no_transaction_open_and_lose_no_device(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(world, 11, lambda _: HEALTHY)
    monkeypatch.setattr(simulate, "PAGE", 4)
    seen: list[int] = []
    assert on_trial(world, HEALTHY, progress=seen.append).devices == 11
    assert seen == [4, 8, 11]


def test_devices_that_a_rule_admits_are_on_trial_too(world: World) -> None:
    (chip,) = fill(world, 1, lambda _: HEALTHY)
    world.withdraw(chip)
    assert on_trial(world, HEALTHY).devices == 0
    other = fill(world, 1, lambda _: HEALTHY)[0]
    world.change("rules", "rules", rules_document((AdmissionRule("*", "*", PROFILE),)))
    assert on_trial(world, HEALTHY, device_id=other.device_id).devices == 1


def test_a_device_without_any_active_version_is_refused_for_that(world: World) -> None:
    fill(world, 1, lambda _: HEALTHY)
    with world.verifier.store.read() as connection:
        book = world.verifier.policy.book(connection)
    trial = simulate.trial_of(world.verifier, book, PROFILE, draft=None, alone=False, retire=(1,))
    (group,) = simulate.simulate(world.verifier, trial, book=book).ordered()
    assert (group.effect, [one.code.value for one in group.largest[0].findings]) == ("refused", ["policy-missing"])


@pytest.mark.parametrize("drafted", [HEALTHY, OTHER, NEWER], ids=["healthy", "other", "newer"])
def test_what_a_trial_says_is_what_the_service_then_does(world: World, drafted: BootImage) -> None:
    images = (HEALTHY, OTHER, NEWER)
    chips = fill(world, 6, lambda number: images[number % 3])
    report = on_trial(world, drafted, examples=10)
    said = {name: group.after for group in report.ordered() for one in group.largest for name in one.examples}
    draft = parse_profile_yaml(golden_profile(SoftChip(world.now_s, image=drafted), version=9))
    world.change("profile-activate", PROFILE, draft.document)
    world.change("profile-retire", PROFILE, b'{"profile":"edge","versions":[1]}')
    done = {f"edge-{number}": prove(world, chip) for number, chip in enumerate(chips)}
    assert {name: isinstance(outcome, Attested) for name, outcome in done.items()} == {
        name: tier is Tier.AFFIRMING for name, tier in said.items()
    }
    assert {state for _, state in states(world)} == {"trusted", "untrusted"}


def states(world: World) -> list[tuple[str, str]]:
    with world.verifier.store.read() as connection:
        return [(one.device_id, one.state) for one in devices.list_devices(connection)]
