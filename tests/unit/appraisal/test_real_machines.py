"""Logs of real machines: a profile learnt from one accepts it, and notices when anything in it changes.

Machines whose log nothing can be learnt from are listed with the reason, so that a change in either direction shows.
"""

from dataclasses import replace
from hashlib import sha256

import pytest

from appraisal_cases import NOW_MS, SELECTION, evidence, quote
from attestd.appraisal.appraise import appraise
from attestd.appraisal.learn import CannotLearn, learn
from attestd.appraisal.policy import Tier
from attestd.appraisal.profile import load_profile, parse_profile_yaml
from attestd.evidence.boot import boot_facts
from attestd.evidence.types import AuthenticatedEvidence
from attestd.tpm.errors import Malformed
from attestd.tpm.eventlog import parse_event_log, replay
from testdata import TESTDATA, needs_testdata

pytestmark = [needs_testdata, pytest.mark.testdata]

REFUSED = {
    "acs__acs__tpm2bios.log": "log-event-altered",  # an OpenPOWER machine, whose events hash other things than UEFI's
    "go-attestation__windows_gcp_shielded_vm.bin": "log-order",  # firmware without separators in PCR 0 to 6
    "guard-oss__testdata__binary_bios_measurements_27": "log-order",  # a BIOS that booted by INT 19h
    "tpm2-tools__fixtures__event-uefiaction.bin": "log-order",  # a fragment of one event
    "tpm2-tools__fixtures__event-uefivar.bin": "log-order",
    "tpm2-tools__fixtures__event.bin": "log-order",
}


def logs():
    folder = TESTDATA / "eventlog" / "uefi"
    return sorted(path for path in folder.iterdir() if "specid" not in path.name) if folder.is_dir() else []


def machine(path) -> AuthenticatedEvidence:
    """Return the evidence that this machine would give if its registers hold what its log says."""
    data = path.read_bytes()
    log = parse_event_log(data)
    bank = "sha256" if "sha256" in log.algorithms else log.algorithms[0]
    reached = replay(log, bank).pcrs
    size = len(next(iter(reached.values())))
    pcrs = {index: reached.get(index, bytes(size)) for index in SELECTION if index != 10}
    facts = boot_facts(log, log_digest=sha256(data).digest(), bank=bank, pcrs=pcrs)
    return evidence(facts, quoted=quote(bank=bank, pcrs=tuple(pcrs.items())))


@pytest.mark.parametrize("path", logs(), ids=lambda path: path.name)
def test_a_profile_learnt_from_a_machine_accepts_it(path):
    seen = machine(path)
    if path.name in REFUSED:
        with pytest.raises(CannotLearn, match=REFUSED[path.name]):
            learn([seen], name="machine", version=1)
        return
    profile = parse_profile_yaml(learn([seen], name="machine", version=1))
    assert load_profile(profile.document) == profile
    assert appraise(seen, profile, now_ms=NOW_MS).affirming


@pytest.mark.parametrize("path", [path for path in logs() if path.name not in REFUSED], ids=lambda path: path.name)
def test_a_component_with_another_content_is_noticed_wherever_it_is(path):
    seen = machine(path)
    profile = parse_profile_yaml(learn([seen], name="machine", version=1))
    assert seen.boot is not None
    components = seen.boot.components
    for position, component in enumerate(components):
        if component.claim == "windows-state":
            continue  # what differs with every boot is not judged
        changed = component._replace(digest=bytes(len(component.digest)), value=None)
        facts = replace(seen.boot, components=(*components[:position], changed, *components[position + 1 :]))
        result = appraise(evidence(facts, quoted=seen.quote), profile, now_ms=NOW_MS)
        assert result.tier is Tier.CONTRAINDICATED
        assert any((f.pcr, f.event) == (component.pcr, component.event) for f in result.findings)


def test_the_list_of_refused_machines_has_no_stale_entry():
    assert REFUSED.keys() <= {path.name for path in logs()}


def test_malformed_is_not_a_reason_that_a_real_log_meets():
    for path in logs():
        try:
            parse_event_log(path.read_bytes())
        except Malformed as error:  # pragma: no cover - says which one
            pytest.fail(f"{path.name}: {error}")
