"""`make fuzz`: every target for a while, one after the other, each in a process of its own; then one table, and 1 for findings.

    python -m fuzz.run [--seconds 60] [--directory .fuzz] [TARGET …]
    python -m fuzz.run --replay TARGET FILE

What earlier runs learned (`corpus/`) and found (`findings/`) is in the directory. A finding is tried again in plain code, without
the fuzzer: what no longer breaks the rule is dropped.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuzz.target import violation
from fuzz.targets import TARGETS

_PATIENCE: Final = 90
"""Seconds beyond those given until a process is ended: it starts, reads its corpus, and may be hanging."""
_REPLAY_SECONDS: Final = 60
TESTS: Final = Path(__file__).resolve().parents[1]
_STATUS: Final = re.compile(r"^#\d+\s+\w+\s+cov: (\d+) .*?corp: (\d+)/", re.MULTILINE)
_DONE: Final = re.compile(r"^stat::number_of_executed_units: (\d+)", re.MULTILINE)
_RUNS: Final = re.compile(r"^#(\d+)\s", re.MULTILINE)
_HEAD: Final = f"{'target':<16}{'seconds':>8}{'inputs':>11}{'a second':>10}{'edges':>7}{'corpus':>8}  findings"


@dataclass(frozen=True)
class Outcome:
    """What became of one target."""

    name: str
    seconds: float
    runs: int
    edges: int
    corpus: int
    findings: tuple[Path, ...]

    def __str__(self) -> str:
        found = len(self.findings) or "-"
        rate = self.runs / self.seconds if self.seconds else 0
        return (
            f"{self.name:<16}{self.seconds:>8.0f}{self.runs:>11}{rate:>10.0f}{self.edges:>7}{self.corpus:>8}  {found}"
        )


def fuzz(name: str, seconds: int, directory: Path) -> Outcome:
    """Run one target and return what came of it."""
    log = directory / f"{name}.log"
    command = [sys.executable, "-m", "fuzz.one", name, str(seconds), str(directory)]
    began = time.monotonic()
    with log.open("wb") as output:
        try:
            code = subprocess.run(
                command, stdout=output, stderr=output, timeout=seconds + _PATIENCE, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
    taken = time.monotonic() - began
    text = log.read_text(errors="replace")
    figures = read_log(text)
    if figures is None:
        raise SystemExit(f"{name}: the fuzzer did not start; see {log}\n{text[-2000:]}")
    findings = tuple(holding(name, directory, ended=code != 0))
    return Outcome(name, min(taken, seconds), *figures, findings)


def read_log(text: str) -> tuple[int, int, int] | None:
    """Return inputs, edges and inputs kept, by the last word of the engine's log; None where it never began."""
    status = _STATUS.findall(text)
    if not status:
        return None
    runs = (_DONE.findall(text) or _RUNS.findall(text))[-1]
    return int(runs), int(status[-1][0]), int(status[-1][1])


def holding(name: str, directory: Path, *, ended: bool) -> Iterator[Path]:
    """Yield the findings that break the rule in plain code as well, and remove the others.

    Where the engine `ended` its process without naming an input, that is a finding by itself: its log.
    """
    place = directory / "findings" / name
    place.mkdir(parents=True, exist_ok=True)
    for file in sorted(place.iterdir()):
        if file.suffix == ".txt":
            continue
        done = _tried(name, file)
        if done != 0:
            yield file
        else:
            file.unlink()
            file.with_suffix(".txt").unlink(missing_ok=True)
    if ended and not any(place.glob("engine-*")):
        yield directory / f"{name}.log"


def _tried(name: str, file: Path) -> int:
    command = [sys.executable, "-m", "fuzz.run", "--replay", name, str(file.resolve())]
    try:
        return subprocess.run(command, cwd=TESTS, capture_output=True, timeout=_REPLAY_SECONDS, check=False).returncode
    except subprocess.TimeoutExpired:
        return -1


def replay(name: str, file: Path) -> int:
    """Run one input in plain code and say what became of it."""
    broken = violation(TARGETS[name], file.read_bytes())
    print(broken[1] if broken else f"{name} keeps the rule for {file}")
    return 1 if broken else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 1 where there are findings."""
    parser = argparse.ArgumentParser(
        prog="make fuzz", description="Feed every parser mutated evidence, guided by coverage."
    )
    parser.add_argument("targets", nargs="*", help="some of: " + " ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--directory", type=Path, default=Path(".fuzz"))
    parser.add_argument("--replay", nargs=2, metavar=("TARGET", "FILE"))
    asked = parser.parse_args(arguments)
    unknown = {*asked.targets, *(asked.replay or ())[:1]} - TARGETS.keys()
    if unknown:
        parser.error(f"there is no target {', '.join(sorted(unknown))}; there are {' '.join(TARGETS)}")
    if asked.replay:
        return replay(asked.replay[0], Path(asked.replay[1]))
    directory = asked.directory.resolve()
    directory.mkdir(exist_ok=True)
    (directory / ".gitignore").write_text("*\n")
    names = tuple(asked.targets or TARGETS)
    print(f"{len(names)} targets, {asked.seconds} s each, and some seconds more to start each:", flush=True)
    print(_HEAD, flush=True)
    outcomes = []
    for name in names:
        outcomes.append(fuzz(name, asked.seconds, directory))
        print(outcomes[-1], flush=True)
    return _verdict(outcomes)


def _verdict(outcomes: Sequence[Outcome]) -> int:
    found = [(outcome.name, file) for outcome in outcomes for file in outcome.findings]
    total = sum(outcome.runs for outcome in outcomes)
    print(f"{len(outcomes)} targets, {total} inputs, {len(found)} findings")
    for name, file in found:
        story = file.with_suffix(".txt")
        print(f"  {name}: {story.read_text().splitlines()[0] if story.exists() else 'the engine ended it'}")
        print(f"    make fuzz REPLAY='{name} {os.path.relpath(file)}'")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
