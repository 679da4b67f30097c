"""Findings in words."""

import pytest

from appraisal_cases import NOW_MS, boot, component, evidence
from attestd.appraisal.appraise import appraise, without_profile
from attestd.appraisal.explain import difference, explain
from attestd.appraisal.policy import Tier
from attestd.appraisal.profile import parse_profile_yaml
from attestd.appraisal.result import FindingDetail
from attestd.protocol.reasons import Reason

POLICY = parse_profile_yaml(
    "profile: edge\nversion: 1\nclaims:\n"
    "  kernel-command-line: {check: required, accept: [{text: other words}, {text: root=/dev/vda quiet ro}]}\n"
)


def finding(value, **changes):
    made = component("kernel-command-line", value, pcr=8, event=57, value=value)
    return appraise(evidence(boot(made)), POLICY, now_ms=NOW_MS).findings[0]


def test_a_sentence_names_the_component_its_event_and_its_register():
    sentence = explain(finding("root=/dev/vda quiet ro evil=1"))
    assert sentence == (
        "kernel command line changed: root=/dev/vda quiet ro evil=1 (event 57 in PCR 8) is not one that the profile accepts."
    )


def test_with_the_profile_it_says_what_was_added_and_what_was_removed():
    sentence = explain(finding("root=/dev/vda ro evil=1"), profile=POLICY)
    assert sentence.endswith("(added “evil=1”; removed “quiet”).")


def test_where_nothing_is_alike_no_difference_is_shown():
    assert "added" not in explain(finding("entirely different"), profile=POLICY)


@pytest.mark.parametrize(
    ("before", "after", "added", "removed"),
    [
        ("a b c", "a c d", ("d",), ("b",)),
        ("a a", "a", (), ("a",)),
        ("a", "a a", ("a",), ()),
        ("x 1\ny 2", "y 2\nz 3", ("z 3",), ("x 1",)),
        ("same", "same", (), ()),
    ],
)
def test_a_difference_is_of_words_or_of_lines(before, after, added, removed):
    assert difference(before, after) == (added, removed)


def test_a_long_difference_is_cut():
    many = " ".join(f"option{n}" for n in range(10_000))
    assert len(explain(finding(f"quiet {many}"), profile=POLICY)) < 1500


@pytest.mark.parametrize("code", list(Reason))
def test_every_reason_has_a_sentence(code):
    detail = FindingDetail(code, "loader", "x", "an expectation", "a {fact}", Tier.CONTRAINDICATED, "executables", 4, 1)
    sentence = explain(detail)
    assert sentence.endswith(".")
    assert "{subject}" not in sentence


def test_e11_a_value_is_escaped():
    assert explain(finding("quiet\x1b[31m\n<script>"), profile=POLICY).isprintable()


def test_a_result_is_explained_finding_by_finding():
    result = without_profile(evidence(boot()), now_ms=NOW_MS)
    assert [explain(one) for one in result.findings] == ["no profile is active for this device."]
