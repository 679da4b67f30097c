"""The verdict: what each step refuses, and that nothing but a clean sheet affirms."""

from dataclasses import replace
from hashlib import sha256

import pytest

from appraisal_cases import EK, NOW_MS, boot, component, evidence, quote
from attestd.appraisal import appraise as appraisal
from attestd.appraisal.appraise import appraise, appraise_boot, assemble, boot_key, without_profile
from attestd.appraisal.policy import CLAIM_REGISTERS, Tier
from attestd.appraisal.profile import parse_profile_yaml
from attestd.appraisal.result import AttestationResult, FindingDetail, findings_for_device
from attestd.appraisal.steps import BOOT_STEPS, DEVICE_STEPS, Outcome
from attestd.evidence.types import AuthenticatedEvidence, EvidenceFinding, RuntimeEntry, RuntimeFacts
from attestd.protocol.limits import MAX_FINDINGS
from attestd.protocol.reasons import Reason


def digest(text):
    return sha256(text.encode()).hexdigest()


def profile(text="", *, name="edge", version=1):
    return parse_profile_yaml(f"profile: {name}\nversion: {version}\n{text}")


def requiring(*texts, claim="loader", more=""):
    rules = ", ".join(f"{{digest: 'sha256:{digest(text)}'}}" for text in texts)
    return profile(f"claims:\n  {claim}: {{check: required, accept: [{rules}]}}\n{more}")


def judge(facts, policy, **parts):
    return appraise(evidence(facts, **parts), policy, now_ms=NOW_MS)


def found(result):
    return [(finding.code, finding.claim) for finding in result.findings]


GOOD = boot(component("loader", "shim"))
POLICY = requiring("shim")


def test_a_boot_of_accepted_components_is_affirmed():
    result = judge(GOOD, POLICY)
    assert result.tier is Tier.AFFIRMING
    assert result.affirming
    assert result.findings == ()
    assert (result.profile, result.profile_version, result.appraised_at) == ("edge", 1, NOW_MS)
    assert result.device_id == EK.device_id


def test_the_vector_of_an_affirmed_boot_claims_what_was_judged():
    # identity, configuration, executables (at boot only), no file system, hardware, and nothing else
    assert judge(GOOD, POLICY).vector == (2, 2, 3, 0, 2, 0, 0, 0)


def test_without_a_certificate_nothing_is_said_of_the_hardware():
    assert judge(GOOD, POLICY, ek=replace(EK, certificate_sha256=None)).vector[4] == 0


def test_a_result_cannot_be_made_by_hand():
    result = judge(GOOD, POLICY)
    with pytest.raises(TypeError):
        replace(result, tier=Tier.AFFIRMING, maker=object())
    with pytest.raises(ValueError, match="maker"):
        replace(result, tier=Tier.AFFIRMING)


def test_evidence_cannot_be_made_by_hand():
    good = evidence(GOOD)
    with pytest.raises(TypeError):
        AuthenticatedEvidence(ek=good.ek, quote=good.quote, boot=good.boot, runtime=None, proved=object())


# --- Step 1 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "claims: {gpt: {check: ignored}}", "claims: {mok: {check: absent}}", "pcrs: {3: ignored}"]
)
def test_p01_a_profile_that_requires_nothing_is_never_affirmed(text):
    result = judge(boot(), profile(text))
    assert (Reason.POLICY_EMPTY, "registers") in found(result)
    assert result.tier is Tier.CONTRAINDICATED


def test_p01_a_profile_of_optional_claims_alone_is_never_affirmed():
    text = f"claims: {{loader: {{check: optional, accept: [{{digest: 'sha256:{digest('shim')}'}}]}}}}"
    assert found(judge(GOOD, profile(text))) == [(Reason.POLICY_EMPTY, "registers")]


def test_p01_no_profile_at_all_is_never_affirmed():
    result = without_profile(evidence(GOOD), now_ms=NOW_MS)
    assert found(result) == [(Reason.POLICY_MISSING, "registers")]
    assert result.tier is Tier.CONTRAINDICATED
    assert (result.profile, result.profile_version) == ("", 0)


# --- Step 2 ----------------------------------------------------------------------------------------------------------


def test_evidence_without_a_boot_log_is_never_affirmed():
    result = judge(None, POLICY)
    assert (Reason.LOG_NEEDED, "registers") in found(result)
    assert result.tier is Tier.CONTRAINDICATED


def test_what_is_wrong_in_the_log_is_found_whatever_the_profile_says():
    facts = replace(GOOD, findings=(EvidenceFinding(Reason.LOG_EVENT_ALTERED, "expected", "actual", 7, 3),))
    result = judge(facts, requiring("shim", more="tiers: {registers: warning}"))
    assert [(f.code, f.pcr, f.event, f.tier) for f in result.findings] == [
        (Reason.LOG_EVENT_ALTERED, 7, 3, Tier.CONTRAINDICATED)
    ]


# --- Step 3 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(8))
def test_a_firmware_register_must_be_explained_whatever_the_profile_says(index):
    facts = replace(GOOD, explained=GOOD.explained - {index}, unexplained=frozenset({index}))
    result = judge(facts, requiring("shim", more=f"pcrs: {{{index}: ignored}}\ntiers: {{registers: warning}}"))
    assert [(f.code, f.pcr, f.tier) for f in result.findings] == [(Reason.LOG_UNEXPLAINED, index, Tier.CONTRAINDICATED)]


def test_a_firmware_register_must_be_quoted():
    without = quote(pcrs=tuple((index, bytes(32)) for index in range(1, 15)))
    facts = replace(GOOD, explained=GOOD.explained - {0})
    assert found(judge(facts, POLICY, quoted=without)) == [(Reason.LOG_UNEXPLAINED, "registers")]


@pytest.mark.parametrize("state", ["unexplained", "unlogged"])
def test_another_register_must_be_explained_unless_the_profile_speaks_of_it(state):
    facts = replace(GOOD, explained=GOOD.explained - {14}, **{state: frozenset({14})})
    assert [(f.code, f.pcr) for f in judge(facts, POLICY).findings] == [(Reason.LOG_UNEXPLAINED, 14)]
    assert judge(facts, requiring("shim", more="pcrs: {14: ignored}")).affirming


def test_the_runtime_register_is_not_a_matter_of_the_boot():
    grown = quote(pcrs=tuple((index, b"\x01" * 32 if index == 10 else bytes(32)) for index in range(15)))
    assert judge(GOOD, POLICY, quoted=grown).affirming


# --- Step 4 ----------------------------------------------------------------------------------------------------------


def test_a_register_has_one_of_its_reference_values():
    zero = "sha256:" + "00" * 32
    other = "sha256:" + "01" * 32
    assert judge(GOOD, requiring("shim", more=f"pcrs: {{4: [{other}, {zero}]}}")).affirming
    result = judge(GOOD, requiring("shim", more=f"pcrs: {{4: [{other}]}}"))
    assert [(f.code, f.pcr) for f in result.findings] == [(Reason.CLAIM_MISMATCH, 4)]


def test_a_reference_value_of_another_bank_does_not_count():
    result = judge(GOOD, requiring("shim", more="pcrs: {4: ['sha1:" + "00" * 20 + "']}"))
    assert found(result) == [(Reason.CLAIM_MISMATCH, "registers")]


CLAIMS_OF_REGISTERS = [(claim, index) for claim, indices in CLAIM_REGISTERS.items() for index in indices]


@pytest.mark.attack("Q03", reason="claim-missing")
@pytest.mark.parametrize("check", ["required", "optional", "absent"])
@pytest.mark.parametrize(("claim", "index"), CLAIMS_OF_REGISTERS)
def test_q03_of_a_register_that_was_not_quoted_nothing_is_said(check, claim, index):
    rules = "" if check == "absent" else ", accept: [{text: x}]"
    text = f"claims:\n  loader: {{check: required, accept: [{{text: shim}}]}}\n  {claim}: {{check: {check}{rules}}}\n"
    others = sorted({*range(15), *CLAIM_REGISTERS.get(claim, ())} - {index})
    quoted = quote(pcrs=tuple((other, bytes(32)) for other in others))
    elsewhere = [] if check == "absent" else [component(claim, "x", value="x")]
    facts = boot(component("loader", "shim", value="shim"), *elsewhere, explained=frozenset(others) - {10})
    assert found(judge(facts, profile(text), quoted=quoted)) == [(Reason.CLAIM_MISSING, claim)]
    assert judge(facts, profile(text + f"pcrs: {{{index}: ignored}}"), quoted=quoted).affirming


def test_a_register_with_a_reference_value_must_be_quoted():
    result = judge(GOOD, requiring("shim", more="pcrs: {23: ['sha256:" + "00" * 32 + "']}"))
    assert found(result) == [(Reason.CLAIM_MISSING, "registers")]


def test_what_is_in_a_register_of_known_value_is_as_approved():
    facts = boot(component("boot-action", "Calling", pcr=4))
    zero = "sha256:" + "00" * 32
    assert judge(facts, profile(f"pcrs: {{4: [{zero}]}}")).affirming
    assert found(judge(facts, profile(f"pcrs: {{5: [{zero}]}}"))) == [(Reason.CLAIM_UNEXPECTED, "boot-action")]


# --- Step 5 ----------------------------------------------------------------------------------------------------------


def test_a_component_that_is_not_accepted_is_named_with_its_event():
    result = judge(boot(component("loader", "evil", event=22)), POLICY)
    (finding,) = result.findings
    assert (finding.code, finding.claim, finding.component) == (Reason.CLAIM_MISMATCH, "loader", "evil")
    assert (finding.pcr, finding.event) == (4, 22)
    assert finding.actual == digest("evil")


def test_one_accepted_component_does_not_excuse_another():
    result = judge(boot(component("loader", "shim"), component("loader", "evil", event=1)), POLICY)
    assert found(result) == [(Reason.CLAIM_MISMATCH, "loader")]


def test_a_required_claim_that_is_not_there_is_missing():
    assert found(judge(boot(), POLICY)) == [(Reason.CLAIM_MISSING, "loader")]


def test_an_optional_claim_may_be_missing_but_not_be_another():
    kernel = f"claims:\n  loader: {{check: required, accept: [{{digest: 'sha256:{digest('shim')}'}}]}}\n"
    text = kernel + "  mok: {check: optional, accept: [{text: a}]}\n"
    assert judge(GOOD, profile(text)).affirming
    both = boot(*GOOD.components, component("mok", "b", pcr=14, value="b"))
    assert found(judge(both, profile(text))) == [(Reason.CLAIM_MISMATCH, "mok")]


def test_a_claim_that_must_be_absent_is_unexpected():
    text = f"claims:\n  loader: {{check: required, accept: [{{digest: 'sha256:{digest('shim')}'}}]}}\n"
    both = boot(*GOOD.components, component("option-rom", "rom", pcr=2))
    assert found(judge(both, profile(text + "  option-rom: {check: absent}"))) == [
        (Reason.CLAIM_UNEXPECTED, "option-rom")
    ]


@pytest.mark.parametrize("claim", ["unknown-event", "option-rom", "gpt"])
def test_e01_a_claim_that_the_profile_does_not_speak_of_is_unexpected(claim):
    result = judge(boot(*GOOD.components, component(claim, "something")), POLICY)
    assert found(result) == [(Reason.CLAIM_UNEXPECTED, claim)]
    assert result.tier is Tier.CONTRAINDICATED


def test_an_ignored_claim_is_not_judged():
    text = f"claims:\n  loader: {{check: required, accept: [{{digest: 'sha256:{digest('shim')}'}}]}}\n  gpt: {{check: ignored}}"
    assert judge(boot(*GOOD.components, component("gpt", "whatever", pcr=5)), profile(text)).affirming


def test_a_text_is_accepted_only_where_it_is_proved():
    text = "claims: {kernel-command-line: {check: required, accept: [{text: quiet}, {glob: 'root=* quiet'}]}}"
    proved = component("kernel-command-line", "x", pcr=8, value="quiet")
    assert judge(boot(proved), profile(text)).affirming
    assert judge(boot(proved._replace(value="root=/dev/vda quiet")), profile(text)).affirming
    # The label says the right thing, and nobody vouches for it.
    assert not judge(boot(proved._replace(value=None, label="quiet")), profile(text)).affirming


def test_a_digest_of_another_bank_does_not_count():
    policy = profile("claims: {loader: {check: required, accept: [{digest: 'sha1:" + "00" * 20 + "'}]}}")
    assert found(judge(GOOD, policy)) == [(Reason.CLAIM_MISMATCH, "loader")]


def test_a_complete_claim_lacks_nothing():
    policy = profile(
        "claims:\n  firmware:\n    check: required\n    complete: true\n    accept:\n"
        f"      - digest: sha256:{digest('a')}\n      - digest: sha256:{digest('b')}\n"
    )
    both = boot(component("firmware", "a", pcr=0), component("firmware", "b", pcr=0))
    assert judge(both, policy).affirming
    assert found(judge(boot(component("firmware", "a", pcr=0)), policy)) == [(Reason.CLAIM_MISSING, "firmware")]


def test_a_claim_whose_failure_warns_gives_a_warning():
    result = judge(boot(component("loader", "other")), requiring("shim", more="tiers: {loader: warning}"))
    assert result.tier is Tier.WARNING
    assert not result.affirming


def test_the_worst_finding_decides():
    policy = requiring("shim", more="tiers: {gpt: warning}")
    result = judge(boot(component("loader", "evil"), component("gpt", "x", pcr=5)), policy)
    assert result.tier is Tier.CONTRAINDICATED
    assert len(result.findings) == 2


def test_every_claim_has_its_verdict():
    result = judge(boot(component("loader", "shim"), component("loader", "evil")), POLICY)
    (verdict,) = [verdict for verdict in result.claims if verdict.claim == "loader"]
    assert (verdict.accepted, verdict.refused) == (1, 1)


def test_an_accepted_component_does_not_count_against_the_configuration():
    result = judge(boot(component("loader", "shim"), component("gpt", "x", pcr=5)), POLICY)
    assert result.vector[1:3] == (96, 3)


# --- Step 6 ----------------------------------------------------------------------------------------------------------


def test_the_firmware_of_the_tpm_is_one_that_is_listed():
    more = "tpm: {firmware-versions: ['0x2019102300163636']}"
    assert judge(GOOD, requiring("shim", more=more)).affirming
    result = judge(GOOD, requiring("shim", more=more), quoted=quote(firmware_version=1))
    assert found(result) == [(Reason.CLAIM_MISMATCH, "tpm")]
    assert result.vector[4] == 96


def test_the_maker_of_the_tpm_is_one_that_is_listed():
    result = judge(GOOD, requiring("shim", more="tpm: {manufacturers: [IFX]}\ntiers: {tpm: warning}"))
    assert [(f.code, f.component, f.tier) for f in result.findings] == [
        (Reason.CLAIM_MISMATCH, "manufacturer", Tier.WARNING)
    ]


# --- Step 7 ----------------------------------------------------------------------------------------------------------

INIT = sha256(b"init").digest()
RUNTIME = RuntimeFacts(
    offset=0,
    count=2,
    value=b"\x0a" * 32,
    convention="bank",
    violations=0,
    boot_aggregate="matches",
    entries=(RuntimeEntry(1, b"/init", "sha256", INIT),),
)
GROWN = quote(pcrs=tuple((index, b"\x0a" * 32 if index == 10 else bytes(32)) for index in range(15)))


def with_runtime(*, check="required", exclude="[]", violations="refuse", more=""):
    text = f"check: {check}, violations: {violations}, exclude: {exclude}, allow: {{/init: ['sha256:{INIT.hex()}']}}"
    return requiring("shim", more=f"runtime: {{{text}}}\n{more}")


def run(facts, policy):
    return judge(GOOD, policy, runtime=facts, quoted=GROWN)


def files(*entries):
    return replace(RUNTIME, entries=tuple(RuntimeEntry(n, p, "sha256", d) for n, (p, d) in enumerate(entries)))


def test_files_that_are_listed_are_affirmed():
    result = run(RUNTIME, with_runtime())
    assert result.affirming
    assert result.vector == (2, 2, 2, 2, 2, 0, 0, 0)


def test_a_file_with_another_content_is_named():
    (finding,) = run(files((b"/init", bytes(32))), with_runtime()).findings
    assert (finding.code, finding.component, finding.pcr) == (Reason.CLAIM_MISMATCH, "/init", 10)


def test_a_listed_content_under_another_path_is_refused():
    (finding,) = run(files((b"/tmp/init", INIT)), with_runtime()).findings
    assert finding.component == "/tmp/init"


def test_an_excluded_path_is_not_judged():
    assert run(files((b"/tmp/x/y", bytes(32))), with_runtime(exclude="['/tmp/*']")).affirming


def test_e08_only_what_matches_the_exclude_is_excluded():
    result = run(files((b"/tmp/x", bytes(32)), (b"/usr/tmp/x", bytes(32))), with_runtime(exclude="['/tmp/*']"))
    assert [finding.component for finding in result.findings] == ["/usr/tmp/x"]


def test_e08_an_opaque_entry_cannot_be_excluded():
    facts = replace(RUNTIME, entries=(RuntimeEntry(1, b"template made-up", "opaque", bytes(20)),))
    assert found(run(facts, with_runtime(exclude="['template*']"))) == [(Reason.CLAIM_MISMATCH, "runtime")]


def test_e11_a_path_for_people_is_escaped():
    (finding,) = run(files((b"/tmp/\xff\x1b[31m<b>\n", bytes(32))), with_runtime()).findings
    assert finding.component == "/tmp/\\xff\\x1b[31m<b>\\n"


def test_a_required_list_that_is_not_there_is_needed():
    assert found(run(None, with_runtime())) == [(Reason.RUNTIME_NEEDED, "runtime")]


def test_an_optional_list_is_needed_once_the_register_was_extended():
    assert found(run(None, with_runtime(check="optional"))) == [(Reason.RUNTIME_NEEDED, "runtime")]
    assert judge(GOOD, with_runtime(check="optional")).affirming


@pytest.mark.parametrize("check", ["required", "optional", "absent"])
def test_q03_without_pcr_10_nothing_is_said_of_the_files(check):
    quoted = quote(pcrs=tuple(item for item in quote().pcrs if item[0] != 10))
    policy = requiring("shim", more="runtime: {check: absent}") if check == "absent" else with_runtime(check=check)
    (finding,) = judge(GOOD, policy, quoted=quoted).findings
    assert (finding.code, finding.component, finding.actual) == (Reason.CLAIM_MISSING, "PCR 10", "not quoted")


def test_a_list_that_must_not_be_there_is_unexpected():
    policy = requiring("shim", more="runtime: {check: absent}")
    assert found(run(RUNTIME, policy)) == [(Reason.CLAIM_UNEXPECTED, "runtime")]
    assert found(judge(GOOD, policy, quoted=GROWN)) == [(Reason.RUNTIME_NEEDED, "runtime")]


@pytest.mark.parametrize(
    ("word", "tier"), [("allow", Tier.AFFIRMING), ("warn", Tier.WARNING), ("refuse", Tier.CONTRAINDICATED)]
)
def test_the_profile_decides_about_violations(word, tier):
    assert run(replace(RUNTIME, violations=3), with_runtime(violations=word)).tier is tier


@pytest.mark.parametrize("state", ["differs", "absent"])
def test_a_list_of_another_boot_is_refused(state):
    result = run(replace(RUNTIME, boot_aggregate=state), with_runtime(more="tiers: {runtime: warning}"))
    assert found(result) == [(Reason.RUNTIME_UNEXPLAINED, "runtime")]
    assert result.tier is Tier.CONTRAINDICATED


@pytest.mark.parametrize("state", ["matches", "earlier", "unverified"])
def test_a_list_of_this_boot_is_accepted(state):
    assert run(replace(RUNTIME, boot_aggregate=state), with_runtime()).affirming


def test_an_unexplained_list_is_refused_even_if_only_a_warning_was_meant():
    finding = EvidenceFinding(Reason.RUNTIME_UNEXPLAINED, "expected", "actual", 10)
    facts = replace(RUNTIME, findings=(finding,), entries=(), boot_aggregate="absent")
    result = run(facts, with_runtime(more="tiers: {runtime: warning}"))
    assert [(f.code, f.tier) for f in result.findings] == [(Reason.RUNTIME_UNEXPLAINED, Tier.CONTRAINDICATED)]


def test_a_result_carries_a_bounded_number_of_findings_and_counts_them_all():
    result = run(files(*((b"/%d" % n, bytes(32)) for n in range(1000))), with_runtime())
    assert len(result.findings) == MAX_FINDINGS
    (verdict,) = [verdict for verdict in result.claims if verdict.claim == "runtime"]
    assert verdict.refused == 1000


# --- A remembered boot -----------------------------------------------------------------------------------------------


def remembered(policy=POLICY, quoted=None):
    return appraise_boot(GOOD, quoted or quote(), profile=policy)


def test_a_remembered_verdict_gives_the_same_result():
    again = assemble(evidence(None), remembered(), profile=POLICY, now_ms=NOW_MS, log_digest=GOOD.log_digest)
    assert again == judge(GOOD, POLICY)


def test_a_verdict_is_still_good_when_only_the_runtime_register_grew():
    key = boot_key(POLICY, quote(), log_digest=GOOD.log_digest)
    assert key == boot_key(POLICY, GROWN, log_digest=GOOD.log_digest)
    assert key == remembered().key


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ({"log_digest": bytes(32)}, Reason.LOG_NEEDED),
        ({"log_digest": None}, Reason.LOG_NEEDED),
        ({"profile": requiring("shim", "x")}, Reason.POLICY_CHANGED),
        ({"quoted": quote(pcrs=tuple((index, b"\x02" * 32) for index in range(15)))}, Reason.LOG_NEEDED),
        ({"quoted": quote(pcrs=tuple((index, bytes(32)) for index in range(14)))}, Reason.LOG_NEEDED),
        ({"quoted": quote(bank="sha384")}, Reason.LOG_NEEDED),
    ],
)
def test_p03_a_verdict_for_something_else_is_not_used(parts, code):
    given = {"log_digest": GOOD.log_digest, "profile": POLICY, "quoted": quote()} | parts
    result = assemble(
        evidence(None, quoted=given["quoted"]),
        remembered(),
        profile=given["profile"],
        now_ms=NOW_MS,
        log_digest=given["log_digest"],
    )
    assert (code, "registers") in found(result)
    assert result.tier is Tier.CONTRAINDICATED


def test_a_refusing_verdict_is_remembered_as_one():
    verdict = appraise_boot(boot(component("loader", "evil")), quote(), profile=POLICY)
    result = assemble(evidence(None), verdict, profile=POLICY, now_ms=NOW_MS, log_digest=GOOD.log_digest)
    assert found(result) == [(Reason.CLAIM_MISMATCH, "loader")]


# --- Q15: an error in any step is not trust --------------------------------------------------------------------------


def raising(_case):
    raise ZeroDivisionError("a defect")


@pytest.mark.parametrize("number", [step.number for step in (*BOOT_STEPS, *DEVICE_STEPS)])
def test_q15_an_error_in_any_step_is_contraindicated(monkeypatch, number):
    boots = tuple(replace(step, run=raising) if step.number == number else step for step in BOOT_STEPS)
    devices = tuple(replace(step, run=raising) if step.number == number else step for step in DEVICE_STEPS)
    monkeypatch.setattr(appraisal, "BOOT_STEPS", boots)
    monkeypatch.setattr(appraisal, "DEVICE_STEPS", devices)
    result = judge(GOOD, POLICY)
    assert [(f.code, f.component, f.actual) for f in result.findings] == [
        (Reason.APPRAISAL_ERROR, f"step {number}", "ZeroDivisionError")
    ]
    assert result.tier is Tier.CONTRAINDICATED
    assert -1 in result.vector


@pytest.mark.parametrize("number", [step.number for step in (*BOOT_STEPS, *DEVICE_STEPS)])
def test_q15_the_other_steps_still_say_what_they_see(monkeypatch, number):
    boots = tuple(replace(step, run=raising) if step.number == number else step for step in BOOT_STEPS)
    monkeypatch.setattr(appraisal, "BOOT_STEPS", boots)
    policy = requiring("shim", more="tpm: {manufacturers: [IFX]}")
    assert (Reason.CLAIM_MISMATCH, "tpm") in found(judge(GOOD, policy))


def test_q15_facts_that_break_a_step_are_contraindicated():
    broken = replace(GOOD, components=(None,))
    result = judge(broken, POLICY)
    assert (Reason.APPRAISAL_ERROR, "registers") in found(result)
    assert result.tier is Tier.CONTRAINDICATED


def test_a_step_that_finds_nothing_says_nothing():
    assert Outcome() == ((), (), ())


# --- What the device learns ------------------------------------------------------------------------------------------


def test_a_device_learns_where_it_fails_and_no_expected_value():
    policy = requiring(
        "shim", claim="loader", more="pcrs: {4: ['sha256:" + "ab" * 32 + "']}\ntpm: {manufacturers: [SECRETMAKER]}"
    )
    result = judge(boot(component("loader", "evil", event=9)), policy)
    shown = findings_for_device(result)
    assert {(item.code, item.claim, item.pcr, item.event) for item in shown} >= {("claim-mismatch", "loader", 4, 9)}
    text = repr(shown)
    for secret in (digest("shim"), "ab" * 32, "SECRETMAKER"):
        assert secret not in text
        assert secret not in repr(result)


def test_a_finding_fits_into_the_protocol():
    long = replace(judge(boot(component("loader", "e" * 5000)), POLICY).findings[0])
    assert isinstance(long, FindingDetail)
    assert all(
        len(item.component) <= 1024
        for item in findings_for_device(judge(boot(component("loader", "e" * 5000)), POLICY))
    )


def test_results_of_different_evidence_have_different_names():
    first = judge(GOOD, POLICY)
    second = judge(GOOD, POLICY, quoted=quote(attest_digest=bytes(32)))
    assert isinstance(first, AttestationResult)
    assert first.evidence_digest != second.evidence_digest
