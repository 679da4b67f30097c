"""What the documents say is so: generated parts are current, links and files exist, commands are real."""

import re
from pathlib import Path

import pytest

from architecture import documents
from attestd.protocol.reasons import Reason
from attestd_agent import machine

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
OWN_FOLDERS = ("attestd/", "agent/", "pki/", "tests/", "docs/", ".ci/")


def _identified(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_generated_parts_are_what_the_code_says() -> None:
    assert [_identified(path) for path, is_now, wanted in documents.current() if is_now != wanted] == []


def test_every_document_with_generated_parts_exists() -> None:
    assert [name for name in documents.PARTS if not (documents.DOCS / name).is_file()] == []


def test_a_changed_generated_part_is_noticed() -> None:
    text = (documents.DOCS / "lifecycle.md").read_text()

    assert documents.regenerate("lifecycle.md", text.replace("| `banned` |", "| `forgiven` |")) == text


@pytest.mark.parametrize("path", DOCUMENTS, ids=_identified)
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text())

    assert [x for x in targets if not re.match(r"https?:", x) and not (path.parent / x).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=_identified)
def test_files_that_are_named_exist(path: Path) -> None:
    named = re.findall(r"`([\w./*-]+)`", path.read_text())
    ours = [x for x in named if x.startswith(OWN_FOLDERS)]

    assert [x for x in ours if not any(ROOT.glob(x))] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=_identified)
def test_sections_that_are_linked_exist(path: Path) -> None:
    missing = []
    for file, anchor in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", path.read_text()):
        target = (path.parent / file) if file else path
        headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE) if target.is_file() else []
        if anchor not in {_anchor(heading) for heading in headings}:
            missing.append(f"{file}#{anchor}")

    assert missing == []


ROWS = {
    "repeats at once": {"repeat", "_over_another_nonce"},
    "drops what it has": {"_renew", "_over_another_nonce"},
    "waits for `Retry-After`": {"_patiently"},
    "asks again seldom": {"_rarely"},
}
"""Words of a row of "Repeating" → what the agent's table of dispositions calls it."""


@pytest.mark.parametrize("words", ROWS)
def test_the_agent_repeats_as_the_protocol_says(words: str) -> None:
    section = (ROOT / "docs/protocol.md").read_text().split("## Repeating")[1].split("## Bounds")[0]
    (row,) = (line for line in section.splitlines() if words in line)
    said = set(re.findall(r"`([a-z-]+)`", row.split(" | ")[0])) & {reason.value for reason in Reason}

    assert said == {str(code) for code, does in machine.DISPOSITIONS.items() if does.__name__ in ROWS[words]}


def _anchor(heading: str) -> str:
    """Return the anchor that renderers of Markdown give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
