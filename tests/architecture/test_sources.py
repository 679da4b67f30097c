"""What the sources must and must not contain: read from their syntax trees, so that no comment can hide it."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERIFIER = ("attestd/attestd", "pki/attestd_pki")
DEMONSTRATION = "attestd/attestd/cli/demo"
PRODUCT = (*VERIFIER, "agent/attestd_agent")
EVERYTHING = (*PRODUCT, "tests")
LONGEST = {"attestd": 400, "pki": 400, "agent": 400, "tests": 500}
"""Lines of a file that are not blank, by its top folder: above it, a file usually does two things."""


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted name of everything that a file imports, with the names taken out of modules."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def attributes(path: Path) -> Iterator[str]:
    """Yield every dotted expression of a file, as it is written."""
    return (ast.unparse(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute))


def guilty(paths: list[Path], pattern: str) -> list[str]:
    """Return the files that import, or name with dots, what the pattern matches whole."""
    wanted = re.compile(pattern)
    return [name(path) for path in paths if any(wanted.fullmatch(x) for x in (*imported(path), *attributes(path)))]


CLOCK = r"time\.(?!sleep$)\w+|(datetime\.)*(datetime|date)\.(now|utcnow|today)"
CHANCE = r"(secrets|random)(\..*)?|os\.(urandom|getrandom)|uuid\.uuid[14]"
ENVIRONMENT = r"os\.(environ.*|getenv|environb)|pydantic_settings.*"


@pytest.mark.parametrize("pattern", [CLOCK, CHANCE], ids=["time", "chance"])
def test_one_file_of_the_verifier_reads_the_clock_and_the_random_source(pattern: str) -> None:
    # The demonstration plays the people and the devices around a verifier: it measures them with a clock of its own.
    served = [path for path in files(*VERIFIER) if ROOT / DEMONSTRATION not in path.parents]

    assert guilty(served, pattern) == ["attestd/attestd/clock.py"]


def test_one_file_of_the_verifier_reads_the_environment() -> None:
    assert guilty(files(*VERIFIER), ENVIRONMENT) == ["attestd/attestd/config.py"]


@pytest.mark.parametrize(
    ("maker", "place"),
    [
        ("attestd.evidence.types.authenticated", "attestd/attestd/evidence/prove.py"),
        ("attestd.evidence.types._PROVED", None),
    ],
)
def test_the_proving_function_alone_makes_authenticated_evidence(maker: str, place: str | None) -> None:
    assert guilty(files(*PRODUCT), re.escape(maker)) == ([place] if place else [])


def test_a_service_takes_the_type_of_a_connection_from_the_database_library_and_nothing_else() -> None:
    taken = {x for path in files("attestd/attestd/services") for x in imported(path) if x.startswith("sqlalchemy")}

    assert taken <= {"sqlalchemy.Connection"}


def test_no_file_is_longer_than_the_longest_allowed() -> None:
    lengths = {name(path): sum(map(bool, map(str.strip, path.read_text().splitlines()))) for path in files(*EVERYTHING)}

    assert {path: length for path, length in lengths.items() if length > LONGEST[path.split("/")[0]]} == {}


def test_every_module_of_the_product_says_what_it_is() -> None:
    assert [name(path) for path in files(*PRODUCT) if path.stat().st_size and not ast.get_docstring(tree(path))] == []


def test_nothing_is_left_for_later() -> None:
    later = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")

    assert [
        name(path) for path in files(*EVERYTHING) if path != Path(__file__) and later.search(path.read_text())
    ] == []


def test_no_file_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}

    assert [name(path) for path in files(*EVERYTHING) if empty & set(path.with_suffix("").parts)] == []


def test_broad_handlers_say_why_they_are_broad() -> None:
    excused = re.compile(r"except (Base)?Exception\b.*# noqa: BLE001")
    broad = re.compile(r"except\s*:|except (Base)?Exception\b")
    lines = [(path, line) for path in files(*VERIFIER) for line in path.read_text().splitlines() if broad.search(line)]

    assert [f"{name(path)}: {line.strip()}" for path, line in lines if not _re_raises(path, line, excused)] == []


def _re_raises(path: Path, line: str, excused: re.Pattern[str]) -> bool:
    """Return whether a broad handler is excused in place, or only passes on what it caught."""
    text = path.read_text()
    following = text[text.index(line) + len(line) :].lstrip().splitlines()
    return bool(excused.search(line)) or any(entry.strip() == "raise" for entry in following[:4])


def test_no_boolean_weakens_a_check() -> None:
    weak = re.compile(
        r"(skip|ignore|disable|insecure|allow|unsafe|no)_?(check|verify|verification|signature|expiry|hostname)\w*"
    )
    arguments = [
        f"{name(path)}: {argument.arg}"
        for path in files(*PRODUCT)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for argument in (*node.args.args, *node.args.kwonlyargs)
        if weak.fullmatch(argument.arg)
    ]

    assert arguments == []
