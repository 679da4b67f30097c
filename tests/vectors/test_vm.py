"""Recorded boots of a virtual machine: a profile learnt from the good one, and what it says of the others.

The verdicts are those of the recording's own manifest, which an independent program reached from the raw registers.
"""

import json

import pytest

from appraisal_cases import NOW_MS, VM, vm_evidence, vm_pcrs
from attestd.appraisal.appraise import appraise
from attestd.appraisal.explain import explain
from attestd.appraisal.learn import learn
from attestd.appraisal.policy import Tier
from attestd.appraisal.profile import load_profile, parse_profile_yaml
from attestd.evidence.boot import boot_facts
from attestd.evidence.runtime import runtime_facts
from attestd.protocol.reasons import Reason
from attestd.tpm.eventlog import parse_event_log
from attestd.tpm.ima import parse_ima
from testdata import needs_testdata

pytestmark = [needs_testdata, pytest.mark.testdata]


def cases():
    path = VM / "manifest.json"
    return json.loads(path.read_text())["cases"] if path.is_file() else []


@pytest.fixture(scope="module")
def profile():
    return parse_profile_yaml(learn([vm_evidence("good-1")], name="vm", version=1))


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["case"])
def test_every_recorded_boot_gets_the_verdict_of_its_manifest(case, profile):
    result = appraise(vm_evidence(case["case"]), profile, now_ms=NOW_MS)
    expected = Tier.AFFIRMING if case["verdict_against_good_1"] == "accept" else Tier.CONTRAINDICATED
    assert result.tier is expected


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["case"])
def test_every_register_of_a_recorded_boot_is_explained(case):
    evidence = vm_evidence(case["case"])
    assert evidence.boot is not None
    assert evidence.boot.findings == ()
    assert evidence.boot.explained == set(range(15)) - {10}
    assert evidence.runtime is not None
    assert evidence.runtime.count == case["checked"]["ima_prefix"]
    assert evidence.runtime.boot_aggregate == "matches"


def test_a_changed_command_line_is_named(profile):
    result = appraise(vm_evidence("tampered-cmdline"), profile, now_ms=NOW_MS)
    mismatches = [f for f in result.findings if f.code is Reason.CLAIM_MISMATCH]
    assert {(f.claim, f.pcr) for f in mismatches} == {
        ("kernel-command-line", 11),
        ("kernel-command-line", 9),
        ("loader", 4),
    }
    assert any(
        text.startswith("kernel command line changed")
        for text in (explain(one, profile=profile) for one in result.findings)
    )


def test_a_changed_file_is_named(profile):
    result = appraise(vm_evidence("tampered-file"), profile, now_ms=NOW_MS)
    assert [(f.code, f.claim, f.component, f.pcr) for f in result.findings] == [
        (Reason.CLAIM_MISMATCH, "runtime", "/opt/app/helper.sh", 10)
    ]
    assert result.vector == (2, 2, 3, 96, 2, 0, 0, 0)


def test_a_stored_profile_says_the_same(profile):
    again = load_profile(profile.document)
    for case in cases():
        evidence = vm_evidence(case["case"])
        assert appraise(evidence, again, now_ms=NOW_MS) == appraise(evidence, profile, now_ms=NOW_MS)


def test_a_profile_learnt_from_two_good_boots_accepts_both():
    # Two recordings that differ in one file, both taken for good: that is what the operator said.
    both = [vm_evidence("good-1"), vm_evidence("tampered-file")]
    text = learn(both, name="vm", version=1)
    assert "2 contents on good machines" in text
    for evidence in both:
        assert appraise(evidence, parse_profile_yaml(text), now_ms=NOW_MS).affirming


def test_the_list_of_good_files_that_the_recording_ships_is_the_one_that_was_learnt(profile):
    shipped = json.loads((VM / "allowlist-good.json").read_text())
    learnt = {path: {digest.hex() for _, digest in digests} for path, digests in profile.runtime.allow}
    for path, digests in learnt.items():
        assert digests <= set(shipped[path])


def test_e04_the_boot_log_of_another_recording_does_not_explain_the_registers():
    log = parse_event_log((VM / "good-1" / "eventlog.bin").read_bytes())
    found = boot_facts(log, log_digest=bytes(32), bank="sha256", pcrs=vm_pcrs("tampered-cmdline"))
    assert found.unexplained == {4, 9, 11}
    assert not [component for component in found.components if component.pcr in (4, 9, 11)]


def test_e08_the_runtime_list_of_another_recording_does_not_explain_pcr_10():
    listed = parse_ima((VM / "good-1" / "ima.bin").read_bytes())
    found = runtime_facts(listed, bank="sha256", pcrs=vm_pcrs("tampered-file"))
    assert [finding.code for finding in found.findings] == [Reason.RUNTIME_UNEXPLAINED]
    assert found.entries == ()
