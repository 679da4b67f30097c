"""The reason codes: each has one problem, one meaning, and a place where it is raised."""

import re
from pathlib import Path

from attestd.protocol.reasons import PROBLEMS, Reason

ROOT = Path(__file__).resolve().parents[2]


def test_every_reason_has_a_problem() -> None:
    assert set(PROBLEMS) == set(Reason)


def test_a_problem_has_a_client_or_a_server_status_a_title_and_advice() -> None:
    assert [
        reason for reason, known in PROBLEMS.items() if not (400 <= known.status < 600 and known.title and known.advice)
    ] == []


def test_no_two_reasons_have_one_title() -> None:
    titles = [known.title for known in PROBLEMS.values()]

    assert sorted(titles) == sorted(set(titles))


def test_a_title_never_names_an_expected_value() -> None:
    assert [known.title for known in PROBLEMS.values() if re.search(r"[{}%]|expected", known.title)] == []


def test_every_reason_is_raised_somewhere() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "attestd/attestd").rglob("*.py") if path.name != "reasons.py")

    assert [reason.value for reason in Reason if f"Reason.{reason.name}" not in text] == []
