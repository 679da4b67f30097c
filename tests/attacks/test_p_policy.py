"""No policy, an empty one, patterns without end, and time that passes: none of them leads to trust."""

import json
import time

import jwt
import pytest
import yaml

from attacks.fixtures_pct import (
    EVIL,
    announced,
    credentials_of,
    is_trusted,
    profile_with,
    refused,
    revoked,
    serial,
    state_of,
    turned_away,
    unchanged,
)
from attestd.appraisal.pattern import glob_matches
from attestd.changes.rules import AdmissionRule, rules_document
from attestd.protocol import codec, limits
from attestd_agent.lab.firmware import BootImage
from exchanges import nonce_in
from softchip import SoftChip
from world import Problem, World, golden_profile

pytest_plugins = ("attacks.fixtures_pct",)

EMPTY = "profile: edge\nversion: 1\n"
INDIFFERENT = "profile: edge\nversion: 1\nclaims: {platform-config: {check: ignored}, gpt: {check: ignored}}\n"


# --- P01 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.attack("P01", reason="policy-missing")
@pytest.mark.parametrize("profile", ["edge", "of-another-fleet"])
def test_p01_a_device_whose_profile_nobody_activated_is_refused(fleet: World, profile: str) -> None:
    chip = SoftChip(fleet.now_s)
    fleet.announce(chip, profile=profile)
    if profile != "edge":
        fleet.golden(chip)
    with turned_away("policy-missing"):
        fleet.enrol(chip)
    assert (state_of(fleet, chip), credentials_of(fleet, chip)) == ("untrusted", 0)
    fleet.activate(
        golden_profile(chip).replace("profile: edge", f"profile: {profile}").replace("version: 1", "version: 2")
    )
    assert fleet.enrol(chip).state == "trusted"


@pytest.mark.attack("P01", reason="policy-missing")
def test_p01_a_rule_that_admits_under_an_unknown_profile_admits_nobody(fleet: World) -> None:
    chip = SoftChip(fleet.now_s)
    fleet.golden(chip)
    fleet.change("rules", "rules", rules_document((AdmissionRule("*", "*", "ghost"),)))
    with turned_away("policy-missing"):
        fleet.enrol(chip)
    assert credentials_of(fleet, chip) == 0
    fleet.change("rules", "rules", rules_document((AdmissionRule("*", "*", "edge"),)))
    assert fleet.enrol(chip).state == "trusted"


@pytest.mark.attack("P01", reason="policy-empty")
@pytest.mark.parametrize("document", [EMPTY, INDIFFERENT], ids=["says nothing", "ignores what it names"])
def test_p01_a_profile_that_requires_nothing_is_met_by_nobody(fleet: World, document: str) -> None:
    chip = SoftChip(fleet.now_s)
    fleet.announce(chip)
    fleet.activate(document)
    with pytest.raises(Problem) as problem:
        fleet.enrol(chip)
    assert (problem.value.code, credentials_of(fleet, chip)) == ("policy-empty", 0)
    fleet.golden(chip, version=2)
    assert fleet.enrol(chip).state == "trusted"


@pytest.mark.attack("P01", reason="policy-missing")
@pytest.mark.parametrize(
    "document",
    [{"profile": "edge", "version": 2}, {"profile": "edge", "version": 2, "accept": "everything"}],
    ids=["not canonical", "an unknown key"],
)
def test_p01_an_approved_document_that_is_no_profile_lets_nobody_in(
    fleet: World, gate: SoftChip, document: dict[str, object]
) -> None:
    enrolled = fleet.enrol(gate)
    body = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    fleet.change("profile-activate", "edge", body)
    stranger = SoftChip(fleet.now_s)
    fleet.announce(stranger, "gate-2")
    with refused(fleet, "policy-missing"):
        fleet.enrol(stranger)
    with refused(fleet, "policy-missing"):
        fleet.attest(gate.attest_request(enrolled.next.nonce))
    fleet.change("profile-retire", "edge", b'{"profile":"edge","versions":[2]}')
    assert fleet.attest(gate.attest_request(enrolled.next.nonce)).state == "trusted"


@pytest.mark.attack("P01", reason="policy-missing")
def test_p01_retiring_the_last_version_ends_the_trust_of_its_devices(fleet: World, gate: SoftChip) -> None:
    enrolled = fleet.enrol(gate)
    assert is_trusted(fleet, gate)
    fleet.change("profile-retire", "edge", b'{"profile":"edge","versions":[1]}')
    with pytest.raises(Problem) as problem:
        fleet.attest(gate.attest_request(enrolled.next.nonce))
    assert problem.value.code == "evidence-refused"
    assert [finding["code"] for finding in problem.value.document["findings"]] == ["policy-missing"]
    assert not is_trusted(fleet, gate)
    assert serial(enrolled.certificate_chain) in revoked(fleet)


# --- P05 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.attack("P05", reason="enrolment-needed")
@pytest.mark.parametrize("silence", [0, 30, 301, 3600])
def test_p05_a_device_that_failed_and_fell_silent_comes_back_by_an_enrolment_alone(
    fleet: World, gate: SoftChip, silence: int
) -> None:
    nonce = fleet.enrol(gate).next.nonce
    gate.boot(EVIL)
    with turned_away("evidence-refused"):
        fleet.attest(gate.whole_attest_request(nonce))
    fleet.pass_time(silence)
    gate.boot(BootImage())
    fresh = fleet.verifier.challenger.attest_nonce(
        gate.device_id, random=bytes(16), issued_ms=fleet.now(), expires_ms=fleet.now() + 60_000
    )
    with refused(fleet, "enrolment-needed"):
        fleet.attest(gate.whole_attest_request(fresh))
    assert not is_trusted(fleet, gate)
    gate.renew_keys()
    assert fleet.enrol(gate).state == "trusted"
    assert is_trusted(fleet, gate)


@pytest.mark.attack("P05", reason="enrolment-needed")
def test_p05_the_deadline_ends_trust_also_where_nothing_sweeps(no_sweep: None, fleet: World, gate: SoftChip) -> None:
    nonce = fleet.enrol(gate).next.nonce
    fleet.pass_time(299)
    assert is_trusted(fleet, gate)
    fleet.pass_time(1)
    assert not is_trusted(fleet, gate)
    assert state_of(fleet, gate) == "trusted", "what the record says, for want of a sweep"
    fresh = fleet.verifier.challenger.attest_nonce(
        gate.device_id, random=bytes(16), issued_ms=fleet.now(), expires_ms=fleet.now() + 60_000
    )
    with refused(fleet, "nonce-expired"):
        fleet.attest(gate.attest_request(nonce))
    with refused(fleet, "enrolment-needed"):
        fleet.attest(gate.attest_request(fresh))


def test_p05_a_proof_just_in_time_keeps_trust(no_sweep: None, fleet: World, gate: SoftChip) -> None:
    nonce = fleet.enrol(gate).next.nonce
    fleet.pass_time(290)
    late = fleet.attest(gate.attest_request(nonce))
    assert (late.state, late.next.deadline < 10) == ("trusted", True)
    assert fleet.attest(gate.attest_request(late.next.nonce)).state == "trusted"
    fleet.pass_time(290)
    assert is_trusted(fleet, gate)


@pytest.mark.attack("P05", reason="nonce-expired")
def test_p05_a_quote_made_ahead_keeps_trust_no_longer_than_from_its_nonce_on(
    no_sweep: None, fleet: World, gate: SoftChip
) -> None:
    """The quote is made the moment the nonce arrives, the boot is changed, the quote is sent as late as possible."""
    enrolled = fleet.enrol(gate)
    ahead = gate.attest_request(enrolled.next.nonce)
    gate.boot(EVIL)
    fleet.pass_time(290)
    told = fleet.attest(ahead)
    assert (told.state, told.next.deadline < 10, told.next.interval < 6) == ("trusted", True, True)
    claims = jwt.decode(told.result, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] <= 10
    fleet.pass_time(10)
    assert not is_trusted(fleet, gate)
    with refused(fleet, "nonce-expired"):
        fleet.attest(gate.attest_request(told.next.nonce))


@pytest.mark.attack("P05", reason="nonce-expired")
def test_p05_an_enrolment_that_was_quoted_long_ago_is_refused(fleet: World) -> None:
    chip = SoftChip(fleet.now_s)
    fleet.announce(chip)
    fleet.golden(chip, interval=5, deadline=30)
    body = codec.encode(chip.request(), codec.CBOR)
    ahead = chip.proof(body, fleet.begin(body))
    fleet.pass_time(20)
    told = fleet.prove(ahead)
    assert told.next.deadline <= 10
    chip.renew_keys()
    body = codec.encode(chip.request(), codec.CBOR)
    ahead = chip.proof(body, fleet.begin(body))
    fleet.pass_time(30)
    with refused(fleet, "nonce-expired"):
        fleet.prove(ahead)


@pytest.mark.attack("P05", reason="nonce-expired")
def test_p05_a_nonce_that_is_older_than_the_new_deadline_is_replaced_and_not_held_against_the_device(
    no_sweep: None, fleet: World, gate: SoftChip
) -> None:
    nonce = fleet.enrol(gate).next.nonce
    fleet.golden(SoftChip(fleet.now_s), version=2, interval=5, deadline=30)
    fleet.change("profile-retire", "edge", b'{"profile":"edge","versions":[1]}')
    fleet.pass_time(60)
    with unchanged(fleet), pytest.raises(Problem) as expired:
        fleet.attest(gate.attest_request(nonce))
    assert expired.value.code == "nonce-expired"
    fresh = nonce_in(expired.value)
    told = fleet.attest(gate.attest_request(fresh))
    assert (told.state, told.next.deadline, told.next.interval) == ("trusted", 29, 5)


def test_a_device_whose_profile_leaves_no_slack_is_asked_to_come_sooner(fleet: World) -> None:
    chip = SoftChip(fleet.now_s)
    fleet.announce(chip)
    fleet.golden(chip, interval=60, deadline=60)
    following = fleet.enrol(chip).next
    for _ in range(8):
        fleet.pass_time(following.interval)
        following = fleet.attest(chip.attest_request(following.nonce)).next
        assert 2 * following.interval <= following.deadline
        assert following.interval >= 10


@pytest.mark.attack("P05", reason="evidence-refused")
def test_p05_silence_does_not_make_a_bad_boot_good(fleet: World, gate: SoftChip) -> None:
    nonce = fleet.enrol(gate).next.nonce
    gate.boot(EVIL)
    with turned_away("evidence-refused"):
        fleet.attest(gate.whole_attest_request(nonce))
    fleet.pass_time(3600)
    gate.renew_keys()
    with turned_away("evidence-refused"):
        fleet.enrol(gate)
    assert state_of(fleet, gate) == "untrusted"
    assert not is_trusted(fleet, gate)


# --- P06 ----------------------------------------------------------------------------------------------------------------

LONGEST = 200_000
PATHOLOGICAL = (
    "*a" * 127 + "*b",
    "a*" * 127 + "b",
    "*" + "a" * 253 + "b*",
    "*b" + "a" * 253 + "*",
    "*" + "a" * 40 + "b" + "a" * 40 + "*",
    "*" + "a" * 126 + "*" + "a" * 125 + "b*",
    "*" * 255 + "b",
    "*ab*ba" * 42 + "c",
)


@pytest.mark.attack("P06")
@pytest.mark.parametrize("pattern", PATHOLOGICAL, ids=range(len(PATHOLOGICAL)))
def test_p06_no_pattern_takes_longer_than_its_text_is_long(pattern: str) -> None:
    assert len(pattern) <= limits.MAX_PATTERN
    for text in ("a" * LONGEST + "x", "ab" * (LONGEST // 2) + "x"):
        began = time.process_time()
        assert not glob_matches(pattern, text)
        assert time.process_time() - began < 1


@pytest.mark.attack("P06", reason="evidence-refused")
def test_p06_pathological_patterns_of_a_profile_do_not_delay_a_proof(fleet: World) -> None:
    chip = SoftChip(fleet.now_s, image=BootImage().with_command_line("a" * 3000))
    fleet.announce(chip)
    rules = [{"glob": pattern} for pattern in PATHOLOGICAL for _ in range(30)]
    claims = dict(yaml.safe_load(golden_profile(chip))["claims"])
    claims["kernel-command-line"] = {"check": "required", "accept": rules}
    fleet.activate(profile_with(chip, claims=claims))
    began = time.monotonic()
    with turned_away("evidence-refused"):
        fleet.enrol(chip)
    assert time.monotonic() - began < 10
    claims["kernel-command-line"] = {"check": "required", "accept": [*rules, {"glob": "/vmlinuz-* *aaa*"}]}
    fleet.activate(profile_with(chip, claims=claims, version=2))
    assert fleet.enrol(chip).state == "trusted"


@pytest.mark.attack("P01", reason="evidence-refused")
@pytest.mark.parametrize(
    "more",
    [
        " init=/bin/sh",
        "\tinit=/bin/sh",
        "\ninit=/bin/sh",
        "\u00a0init=/bin/sh",
        "\u2003init=/bin/sh",
        "\u00e0init=/bin/sh",
        '"',
        "'",
        "\\",
    ],
    ids=ascii,
)
def test_p01_a_star_in_a_command_line_lets_no_other_argument_in(fleet: World, more: str) -> None:
    line = "root=UUID={} ro quiet lockdown=integrity"
    known = SoftChip(fleet.now_s, image=BootImage().with_command_line(line.format("1111-2222")))
    claims = dict(yaml.safe_load(golden_profile(known))["claims"])
    claims["kernel-command-line"]["accept"] = [{"glob": "/vmlinuz-* " + line.format("*")}]
    claims["grub-command"]["accept"].append({"glob": "linux /vmlinuz-* " + line.format("*")})
    fleet.activate(profile_with(known, claims=claims))
    other = SoftChip(fleet.now_s, image=BootImage().with_command_line(line.format("3333-4444")))
    fleet.announce(other, "other")
    assert fleet.enrol(other).state == "trusted"
    evil = SoftChip(fleet.now_s, image=BootImage().with_command_line(line.format("3333-4444" + more)))
    fleet.announce(evil, "evil")
    with turned_away("evidence-refused"):
        fleet.enrol(evil)


@pytest.mark.attack("P06", reason="device-unannounced")
def test_p06_pathological_rules_of_admission_do_not_delay_an_enrolment(fleet: World) -> None:
    chip = SoftChip(fleet.now_s)
    fleet.golden(chip)
    bad = tuple(AdmissionRule(pattern, "*", "edge") for pattern in PATHOLOGICAL)
    fleet.change("rules", "rules", rules_document(bad * 100))
    began = time.monotonic()
    with turned_away("device-unannounced"):
        fleet.enrol(chip)
    assert time.monotonic() - began < 10
    fleet.change("rules", "rules", rules_document((*bad, AdmissionRule("*4E54*", "NPCT*", "edge"))))
    assert fleet.enrol(chip).state == "trusted"


def test_p06_a_regular_expression_is_text_like_any_other(fleet: World, gate: SoftChip) -> None:
    assert not glob_matches("(a+)+$", "aaaa")
    assert glob_matches("(a+)+*", "(a+)+$")
    assert announced(fleet, "gate-2", profile="edge").device_id != gate.device_id
