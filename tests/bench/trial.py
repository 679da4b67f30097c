"""What trying a profile on a fleet costs: `attestd profile simulate` without its command line, on SQLite."""

import time
from collections.abc import Callable

from report import Line

from attestd.appraisal.profile import parse_profile_yaml
from attestd.services import simulate
from attestd_agent.lab.firmware import BootImage
from kept_fleet import fill
from softchip import SoftChip
from world import PROFILE, World, golden_profile

DEVICES = 10_000
TARGET_SECONDS = 30.0


def lines(urls: Callable[[], str], scale: float) -> list[Line]:
    """Measure a fleet of a few images, and one in which every device has a boot log of its own."""
    count = int(DEVICES * scale)
    images = [BootImage().with_firmware(f"LAB {number}.0") for number in range(4)]
    return [
        _line("of four images", urls(), count, lambda number: images[number % 4]),
        _line("each with a log of its own", urls(), count, lambda number: BootImage().with_firmware(f"LAB {number}")),
    ]


def _line(said: str, url: str, count: int, image: Callable[[int], BootImage]) -> Line:
    world = World(url)
    world.golden(SoftChip(world.now_s))
    fill(world, count, image)
    draft = parse_profile_yaml(golden_profile(SoftChip(world.now_s, image=image(1)), version=2))
    with world.verifier.store.read() as connection:
        book = world.verifier.policy.book(connection)
    trial = simulate.trial_of(world.verifier, book, PROFILE, draft=draft, alone=True, retire=())
    begin = time.process_time()
    report = simulate.simulate(world.verifier, trial, book=book)
    taken = time.process_time() - begin
    assert report.devices == count
    world.verifier.store.close()
    return Line(
        f"profile simulate, for {DEVICES:,} devices, {said}",
        taken / count * DEVICES,
        "s of CPU",
        None,
        TARGET_SECONDS,
        count,
    )
