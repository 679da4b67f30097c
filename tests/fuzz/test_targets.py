"""Every target without the fuzzer: its seeds, what is hostile to one reader or another, and a few hundred mutations.

`make fuzz` searches; this holds what was found, and that whatever reads bytes of others has a target at all.
"""

import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import CodeType, FrameType
from typing import Any

import cbor2
import pytest

from attestd.protocol.limits import INSPECTED_NESTING
from fuzz.mutation import HOSTILE, MUTATORS, NESTED, mutate
from fuzz.parsers import EXEMPT, readers
from fuzz.run import holding, read_log
from fuzz.target import LONGEST, MOST_SECONDS, Target, Unbounded, feed, name_of, violation
from fuzz.targets import TARGETS, real_seeds

MUTATIONS = 200
SLOWER = 4.0
"""Whoever runs the tests may have a slow machine, and share it; `make fuzz` holds what it finds against the bound itself."""
DEEPEST = 6 * INSPECTED_NESTING
"""Frames below a target: readers that follow what is nested need a few for each level, and have a bound for levels."""
FOUND = sorted((Path(__file__).parent / "found").iterdir())


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_the_bytes_a_target_keeps_the_rule(name: str) -> None:
    target, random = TARGETS[name], Random(name)
    seeds = list(target.seeds())
    inputs = [*seeds, *HOSTILE]
    inputs += [mutate(random.choice(seeds), random, form=target.form, words=target.words) for _ in range(MUTATIONS)]

    broken = [(data, found[1]) for data in inputs if (found := violation(target, data, slower=SLOWER))]

    assert [story for _, story in broken] == [], broken[0][0].hex()


@pytest.mark.parametrize("name", TARGETS)
def test_the_parsers_of_a_target_are_reached_by_its_seeds(name: str) -> None:
    target = TARGETS[name]
    reached: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            reached.add(frame.f_code)

    for parser in target.parsers:
        getattr(parser, "cache_clear", bool)()
    sys.setprofile(note)
    try:
        for data in target.seeds():
            violation(target, data)
    finally:
        sys.setprofile(None)

    assert [name_of(one) for one in target.parsers if _code(one) not in reached] == []


def _code(function: Any) -> CodeType:
    inner = getattr(function, "__wrapped__", function)
    code: CodeType = getattr(inner, "__func__", inner).__code__
    return code


@pytest.mark.parametrize("name", TARGETS)
def test_a_seed_of_every_target_is_accepted(name: str) -> None:
    """Else the fuzzer would look at refusals alone. A tool that makes seeds may be missing."""
    target = TARGETS[name]
    refusals = [_refusal(target, data) for data in target.seeds()]

    assert None in refusals or not refusals


def _refusal(target: Target, data: bytes) -> str | None:
    try:
        target.run(data)
    except target.own as refusal:
        return repr(refusal)
    return None


@pytest.mark.parametrize("name", TARGETS)
def test_e06_no_target_goes_deep_for_what_is_nested(name: str) -> None:
    target, depth, deepest = TARGETS[name], 0, 0

    def count(frame: FrameType, event: str, _: Any) -> None:
        nonlocal depth, deepest
        depth += (event == "call") - (event == "return")
        deepest = max(deepest, depth)

    for data in NESTED:
        depth = 0
        sys.setprofile(count)
        try:
            violation(target, data)
        finally:
            sys.setprofile(None)

    assert deepest < DEEPEST


@pytest.mark.parametrize("file", FOUND, ids=lambda file: file.name)
def test_what_once_broke_the_rule_is_refused(file: Path) -> None:
    """One file for each finding: the target's name, a dot, and what is in it."""
    target = TARGETS[file.name.partition(".")[0]]

    assert violation(target, file.read_bytes(), slower=SLOWER) is None


_LONG = 30_000
REPEATED = {
    "comid": cbor2.dumps({0: "t", 1: "n", 6: {16: {24: "d" * _LONG, 26: {17: [{}] * _LONG}}}}),
    "rim": b"<SoftwareIdentity><Payload><Directory name='%s'>%s</Directory></Payload></SoftwareIdentity>"
    % (b"d" * _LONG, b"<File/>" * (_LONG // 7)),
}


@pytest.mark.parametrize("name", REPEATED)
def test_e06_the_name_of_a_directory_is_not_repeated_without_bound_for_its_files(name: str) -> None:
    assert violation(TARGETS[name], REPEATED[name], slower=SLOWER) is None


# --- Completeness -----------------------------------------------------------------------------------------------------------


def missing(found: Iterator[str]) -> list[str]:
    """Return the readers without a target that are not exempt either."""
    fed = {name_of(parser) for target in TARGETS.values() for parser in target.parsers}
    return sorted(set(found) - fed - EXEMPT.keys())


def test_every_reader_of_what_others_wrote_has_a_target() -> None:
    assert missing(readers()) == [], "add a target in tests/fuzz/of_*.py, or a reason in tests/fuzz/parsers.py"


def test_no_exemption_is_without_a_reason_or_for_nothing() -> None:
    assert [name for name, reason in EXEMPT.items() if not reason] == []
    assert sorted(EXEMPT.keys() - set(readers())) == []


@pytest.mark.parametrize(
    "source",
    [
        "def parse_thing(anything: bytes) -> int: ...",
        "def thing(data: bytes) -> int: ...",
        "def thing(stream: Readable) -> int: ...",
        "def inspect_thing(files: Mapping[str, bytes]) -> int: ...",
        "class Thing:\n    @classmethod\n    def decode(cls, data: bytes) -> int: ...",
    ],
)
def test_a_new_reader_is_noticed(source: str, tmp_path: Path) -> None:
    (tmp_path / "thing.py").write_text(
        f"{source}\ndef _parse(data: bytes) -> int: ...\ndef write(thing: int) -> bytes: ...\n"
    )

    assert len(missing(readers({"attestd.tpm": tmp_path}))) == 1


# --- The rule itself --------------------------------------------------------------------------------------------------------


def target_of(run: Any) -> Target:
    """Return a target that does this and may raise KeyError."""
    return Target(run, (KeyError,), list, ())


def test_an_error_of_its_own_keeps_the_rule_and_any_other_breaks_it() -> None:
    assert violation(target_of({}.__getitem__), b"x") is None
    assert violation(target_of(lambda data: data[1]), b"x") is not None


def test_an_assertion_about_what_was_read_is_part_of_the_rule() -> None:
    def wrong(data: bytes) -> None:
        assert data == b"another"

    found = violation(target_of(wrong), b"x")

    assert found is not None
    assert "AssertionError" in found[0]


def test_e06_work_without_bound_breaks_the_rule() -> None:
    def busy(data: bytes) -> None:
        began = time.thread_time()
        while time.thread_time() < began + 2 * MOST_SECONDS:
            pass

    with pytest.raises(Unbounded):
        feed(target_of(busy), b"x")


def test_e06_memory_without_bound_breaks_the_rule() -> None:
    """What counts is the most that this process ever had, and a little of the tests before it may be in that."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

    with pytest.raises(Unbounded):
        feed(target_of(lambda data: data * (before + (300 << 20))), b"x")


@pytest.mark.parametrize("form", sorted({target.form for target in TARGETS.values()} - {"bytes"}))
def test_mutations_repeat_and_differ_from_what_they_were_made_of(form: str) -> None:
    seeds = [data for target in TARGETS.values() if target.form == form for data in target.seeds()][:3]
    made = [[MUTATORS[form](data, Random(number)) for number in range(20)] for data in seeds]

    assert made == [[MUTATORS[form](data, Random(number)) for number in range(20)] for data in seeds]
    assert all(len(set(several)) > 5 for several in made)


def test_seeds_fit_into_one_input() -> None:
    assert [name for name, target in TARGETS.items() if any(len(data) > LONGEST for data in target.seeds())] == []
    assert all(len(data) <= LONGEST for data in real_seeds(TARGETS["signaturelist"]))


def test_the_figures_of_a_run_are_those_of_the_engines_last_word() -> None:
    begun = (
        "INFO: seed\n#2\tINITED cov: 5 ft: 9 corp: 3/1Kb rss: 50Mb\n#280\tREDUCE cov: 42 ft: 99 corp: 12/34Kb lim: 9\n"
    )

    assert read_log("nothing") is None
    assert read_log(begun) == (280, 42, 12)
    assert read_log(begun + "stat::number_of_executed_units: 300\n") == (300, 42, 12)


def test_a_finding_that_no_longer_breaks_the_rule_is_dropped(tmp_path: Path) -> None:
    place = tmp_path / "findings" / "nonce"
    place.mkdir(parents=True)
    (place / "c0ffee").write_bytes(b"harmless")
    (place / "c0ffee.txt").write_text("it was not")

    assert (list(holding("nonce", tmp_path, ended=False)), list(place.iterdir())) == ([], [])
    assert list(holding("nonce", tmp_path, ended=True)) == [tmp_path / "nonce.log"]
