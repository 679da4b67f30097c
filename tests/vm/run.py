"""A real measured boot, told in steps: `make vm-test`.

Firmware (OVMF), the stub of systemd, a distribution's kernel with IMA and the unmodified agent run in a virtual machine; the
verifier runs here. Nothing is simulated but the chips: software TPMs of a manufacturer made for this. Two machines boot: a
reference, which a person holds to be good, and edge-1, which is attacked twice and repaired.

What is shown ends with 0 only if everything came true, 1 otherwise.
"""

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import scenes
from machine import BootFailed

from attestd.cli.demo.stage import NotPossible, Stage
from attestd.cli.demo.telling import ForPeople

_TAIL = 60
"""Lines of the serial console that are shown where a boot failed."""


def main() -> int:
    """Play all scenes, or those of the smoke form, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("packages", type=Path, help="the directory into which kernel and busybox were unpacked")
    parser.add_argument("--smoke", action="store_true", help="leave out the tampered file and the repair")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _told_to_end)
    begin = time.monotonic()
    try:
        place = scenes.fresh(options.packages.parent / "run")
        with Stage.at(place) as stage:
            story = scenes.Scenes(stage, ForPeople(), packages=options.packages.resolve())
            story.play(smoke=options.smoke)
    except BootFailed as error:
        _show_console(error.serial)
        return _end(f"{error}. The whole console: {error.serial}", begin)
    except (NotPossible, *scenes.TOOLS) as error:
        return _end(str(error), begin)
    wrong = [step for step in story.steps if not step.ok]
    for step in wrong:
        print(f"  {step.subject}: {step.actual}, not {step.expected}")
    if wrong:
        _show_console(story.last_serial)
        return _end(
            f"{len(wrong)} of {len(story.steps)} steps did not go as expected. Everything lies in {place}", begin
        )
    print(
        f"\nAll {len(story.steps)} steps went as expected, {time.monotonic() - begin:.0f} s. Everything lies in {place}"
    )
    return 0


def _told_to_end(number: int, _frame: FrameType | None) -> None:
    """Turn a signal into an orderly end, so that nothing is left running."""
    sys.exit(128 + number)


def _show_console(serial: Path | None) -> None:
    if serial is not None and serial.exists():
        lines = serial.read_text(errors="replace").splitlines()
        print(f"\nThe end of the serial console ({serial}):", *lines[-_TAIL:], sep="\n  | ")


def _end(why: str, begin: float) -> int:
    print(f"\nvm-test failed after {time.monotonic() - begin:.0f} s: {why}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
