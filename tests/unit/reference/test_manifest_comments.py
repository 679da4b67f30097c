"""Who signed and what a log is called are the words of others: in a profile they stay comments, on one line and visible."""

from collections.abc import Sequence

import pytest

from attestd.appraisal.policy import Rule
from attestd.appraisal.profile import parse_profile_yaml
from attestd.reference.manifest import Manifest, Source
from attestd.reference.manifest_profile import draft
from attestd.reference.manifest_values import LeftOut, Said, Values
from attestd.reference.manifest_yaml import new_text, next_text

HOSTILE = ["x\nversion: 9", "x\rversion: 9", "x\u2028version: 9", "x\x85version: 9", "\x1b[2Jx", "\u202ex"]
BASE = "profile: edge\nversion: 1\nclaims:\n  secure-boot: {check: required, accept: [{text: enabled}]}\n"


def made(text: str) -> tuple[Values, Sequence[Manifest]]:
    """Return values that others' words stand beside everywhere, and their manifest."""
    source = Source(text, "RIM", text, text, text, text)
    values = Values()
    values.claims["kernel"] = {Rule(digest=("sha256", bytes(32))): Said(source, text)}
    values.registers[4] = {("sha256", bytes(32)): Said(source, text)}
    values.files["/bin/x"] = {("sha256", bytes(32)): Said(source, text), ("sha256", bytes(31) + b"\1"): Said(source)}
    values.left_out.append(LeftOut(text, text, text))
    return values, (Manifest(source, (), (), (), numbers_are_registers=False, builds_on=False),)


@pytest.mark.parametrize("text", HOSTILE)
def test_others_words_in_a_new_profile_are_comments(text: str) -> None:
    values, manifests = made(text)
    written = new_text(draft(values, None), values, manifests, name="edge", version=1)
    assert all(line.isprintable() for line in written.split("\n"))
    assert parse_profile_yaml(written).version == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_others_words_in_a_next_version_are_comments(text: str) -> None:
    values, manifests = made(text)
    base = parse_profile_yaml(BASE)
    written = next_text(BASE, base, draft(values, base), values, manifests, name="edge", version=2)
    assert all(line.isprintable() for line in written.split("\n"))
    assert parse_profile_yaml(written).version == 2
