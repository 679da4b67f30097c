"""A command line that somebody wrote down beside evidence: believed where it hashes to what was measured, and only there."""

import json
from hashlib import sha256

import pytest

from attestd.evidence.types import Component
from attestd.inspection.claimed import claimed_by

LINE = "quiet root=/dev/vda2"


def measured(data: bytes) -> Component:
    return Component("kernel-command-line", 9, 20, sha256(data).digest(), None, "the command line")


def proven(text: str, data: bytes) -> str | None:
    return claimed_by({"report.json": json.dumps({"cmdline": text}).encode()}).proven(measured(data), "sha256").value


@pytest.mark.parametrize("text", [LINE, f"{LINE}\n"], ids=["bare", "as-proc-cmdline-has-it"])
@pytest.mark.parametrize(
    "data",
    [LINE.encode(), f"{LINE}\0".encode(), f"{LINE}\0".encode("utf-16-le"), LINE.encode("utf-16-le")],
    ids=["section", "terminated", "load-options", "load-options-bare"],
)
def test_a_text_that_was_measured_is_believed(text, data):
    assert proven(text, data) == LINE


@pytest.mark.parametrize("text", ["quiet", f"{LINE} ", ""])
def test_another_text_is_not_believed(text):
    assert proven(text, LINE.encode()) is None
