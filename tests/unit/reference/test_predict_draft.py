"""A predicted profile accepts the predicted boot and no other; a next version is the old one and what was predicted."""

import json
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

import boot_artefacts as made
from appraisal_cases import NOW_MS, evidence, quote
from attestd.appraisal.appraise import appraise
from attestd.appraisal.learn import learn
from attestd.appraisal.policy import Check
from attestd.appraisal.profile import ProfileError, parse_profile_yaml
from attestd.appraisal.result import AttestationResult
from attestd.evidence.boot import boot_facts
from attestd.evidence.types import AuthenticatedEvidence
from attestd.reference.boot import Artefact, Style
from attestd.reference.draft import Draft, new_profile, next_version
from attestd.reference.files import ArtefactRefused
from attestd.reference.predict import Boot, Prediction, predict
from attestd.tpm.eventlog import parse_event_log
from attestd_agent.lab.firmware import BootImage, simulate_boot

UPDATE = BootImage().with_kernel("6.1.0-30-amd64")


def machine(image: BootImage) -> AuthenticatedEvidence:
    """Return the evidence of a machine of the laboratory."""
    booted = simulate_boot(image)
    registers = dict.fromkeys(range(15), bytes(32))
    for index, digests in booted.extends:
        registers[index] = sha256(registers[index] + digests["sha256"]).digest()
    facts = boot_facts(parse_event_log(booted.event_log), log_digest=bytes(32), bank="sha256", pcrs=registers)
    return evidence(facts, quoted=quote(pcrs=tuple(registers.items())))


def foreseen(image: BootImage) -> Prediction:
    """Return what the artefacts of a kernel update say: kernel, ramdisk, command line."""
    version = image.kernel_version
    wanted = Boot(
        loader=Artefact("shim", image.shim),
        applications=(Artefact("grub", image.loader),),
        kernel=Artefact("vmlinuz", image.kernel),
        initrds=(Artefact(f"initrd.img-{version}", image.initrd),),
        line=f"/vmlinuz-{version} {image.command_line}",
        commands=(f"initrd /initrd.img-{version}",),
        style=Style.GRUB,
    )
    return predict(wanted, "sha256")


LEARNT = learn([machine(BootImage())], name="edge", version=3)


def judged(image: BootImage, draft: Draft) -> AttestationResult:
    return appraise(machine(image), draft.profile, now_ms=NOW_MS)


def refused(text: str, prediction: Prediction) -> str:
    with pytest.raises(ArtefactRefused) as caught:
        next_version(text, prediction)
    return caught.value.code


def test_a_learnt_profile_refuses_an_update_that_the_predicted_version_accepts() -> None:
    old = Draft(LEARNT, parse_profile_yaml(LEARNT), ())
    assert not judged(UPDATE, old).affirming
    assert judged(UPDATE, next_version(LEARNT, foreseen(UPDATE))).affirming


def test_a_machine_before_the_update_is_still_accepted() -> None:
    assert judged(BootImage(), next_version(LEARNT, foreseen(UPDATE))).affirming


@pytest.mark.parametrize(
    "image",
    [
        UPDATE.with_tampered_kernel(),
        UPDATE.with_initrd(UPDATE.initrd[:-1] + b"!"),
        UPDATE.with_command_line(UPDATE.command_line + " "),
        replace(UPDATE, shim=UPDATE.shim[:-1] + b"!"),
        replace(UPDATE, loader=UPDATE.loader[:-1] + b"!"),
    ],
    ids=["kernel", "ramdisk", "command line", "shim", "GRUB"],
)
def test_one_other_byte_is_refused(image: BootImage) -> None:
    assert not judged(image, next_version(LEARNT, foreseen(UPDATE))).affirming


def test_replaced_values_are_accepted_no_longer() -> None:
    draft = next_version(LEARNT, foreseen(UPDATE), replace=True)
    assert judged(UPDATE, draft).affirming
    found = judged(BootImage(), draft)
    assert {one.claim for one in found.findings} == {"kernel", "initrd", "kernel-command-line"}


def test_claims_of_which_more_is_open_are_not_replaced() -> None:
    draft = next_version(LEARNT, foreseen(UPDATE), replace=True)
    assert all(change.removed == 0 for change in draft.changes if change.claim in ("grub-command", "boot-action"))


def test_a_next_version_keeps_every_line_that_a_person_wrote() -> None:
    text = LEARNT.replace("claims:\n", "# ours since 2024\nclaims:\n").replace(
        "check: required\n", "check: required  # yes\n"
    )
    new = next_version(text, foreseen(UPDATE)).text.splitlines()
    kept = [line for line in text.splitlines() if not line.startswith(("version:", "    complete: true"))]
    assert [line for line in kept if line not in new] == []


def test_a_next_version_says_what_it_adds() -> None:
    draft = next_version(LEARNT, foreseen(UPDATE))
    assert draft.text.startswith("# v4: v3 and what was predicted from ")
    assert "#   kernel: 1 added" in draft.text
    assert (draft.profile.name, draft.profile.version) == ("edge", 4)


def test_nothing_is_added_twice() -> None:
    once = next_version(LEARNT, foreseen(UPDATE))
    again = next_version(once.text, foreseen(UPDATE))
    assert [change.added for change in again.changes] == [0] * len(again.changes)
    assert again.profile.claims == once.profile.claims


def test_a_claim_that_asked_for_all_of_its_values_does_so_no_longer() -> None:
    draft = next_version(LEARNT, foreseen(UPDATE))
    (change,) = [one for one in draft.changes if one.claim == "application"]
    complete = parse_profile_yaml(LEARNT).by_claim["application"].complete
    assert (complete, draft.profile.by_claim["application"].complete) == (True, False)
    assert "no longer complete" in change.remark


PLAIN = "profile: edge\nversion: 1\nclaims:\n  loader: {check: required, accept: [{text: x}]}\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.rstrip("\n"),
        "profile: edge\nversion: 1\nclaims: {loader: {check: required, accept: [{text: x}, ]}}\n",
        "profile: edge\nversion: 1\nclaims: {}\npcrs: {4: ignored}\n",
        json.dumps(
            {"profile": "edge", "version": 1, "claims": {"kernel": {"check": "optional", "accept": [{"text": "ü"}]}}}
        ),
        "claims:\n    loader:\n        accept:\n        - text: >-\n            x\n        check: required\n"
        "version: 1\nprofile: edge\n",
        "profile: edge\nversion: 1\nclaims:\n  kernel:\n    check: required\n    accept:  # ü\n      - {text: a}  # b\n\n# end\n",
        "---\nprofile: edge\nversion: 1\nclaims:\n  kernel: {accept: [\n"
        "    {text: a},  # b\n    {text: b}  # c\n    ], check: required}\n...\n",
    ],
    ids=["flow", "no last line", "comma", "empty", "JSON", "folded", "comments", "marks"],
)
@pytest.mark.parametrize("replace_values", [False, True])
def test_a_profile_is_added_to_however_it_is_written(text: str, replace_values: bool) -> None:
    draft = next_version(text, foreseen(UPDATE), replace=replace_values)
    assert draft.profile == parse_profile_yaml(draft.text)
    assert draft.profile.version == 2
    assert {one.component.claim for one in foreseen(UPDATE).claims} <= set(draft.profile.by_claim)


def test_a_claim_that_must_be_absent_is_refused() -> None:
    text = "profile: edge\nversion: 1\nclaims:\n  kernel: {check: absent}\n"
    assert refused(text, foreseen(UPDATE)) == "predict-absent"


def test_a_claim_that_is_ignored_stays_so() -> None:
    draft = next_version("profile: edge\nversion: 1\nclaims:\n  boot-action: {check: ignored}\n", foreseen(UPDATE))
    assert draft.profile.by_claim["boot-action"].check is Check.IGNORED


def test_a_profile_without_claims_is_refused() -> None:
    assert refused("profile: edge\nversion: 1\npcrs: {4: ignored}\n", foreseen(UPDATE)) == "profile-layout"


def test_what_is_no_profile_is_refused() -> None:
    with pytest.raises(ProfileError):
        next_version("profile: edge\n", foreseen(UPDATE))


def test_a_new_profile_accepts_what_was_predicted_and_names_what_is_open() -> None:
    draft = new_profile(foreseen(UPDATE), name="edge", version=1)
    assert "# firmware: {check: ignored}" in draft.text
    assert "firmware" not in draft.profile.by_claim
    assert not judged(UPDATE, draft).affirming
    foretold = {one.component.claim for one in foreseen(UPDATE).claims}
    assert {one.claim for one in judged(UPDATE, draft).findings} & (foretold - {"grub-command"}) == set()


def test_a_name_that_would_end_its_line_does_not() -> None:
    wanted = Boot(loader=Artefact('x"\nversion: 9\n#', BootImage().shim))
    draft = new_profile(predict(wanted, "sha256"), name="edge", version=1)
    assert draft.profile.version == 1
    assert next_version(draft.text, predict(wanted, "sha256")).profile.version == 2


def test_a_digest_of_a_command_line_has_the_line_as_its_note() -> None:
    uki = Artefact("gateway.efi", made.gateway("root=/dev/vda2 ro"))
    draft = new_profile(predict(Boot(unified=uki), "sha256"), name="edge", version=1)
    notes = [rule.note for rule in draft.profile.by_claim["kernel-command-line"].accept]
    assert notes == ["gateway.efi .cmdline: root=/dev/vda2 ro"] * 2


def unified(**more: Any) -> Prediction:
    uki = Artefact("gateway.efi", made.gateway())
    return predict(Boot(unified=uki, loader=Artefact("systemd-boot", made.loader("systemd-boot")), **more), "sha256")


def test_a_required_claim_that_the_artefacts_do_not_make_is_told() -> None:
    text = "profile: edge\nversion: 1\nclaims:\n  application: {check: required, accept: [{text: x}]}\n"
    draft = next_version(text, predict(Boot(kernel=Artefact("vmlinuz", made.kernel()), line="ro"), "sha256"))
    assert [one.claim for one in draft.changes if one.remark.startswith("required, and not predicted")] == [
        "application"
    ]


def test_replaced_values_of_which_some_boots_make_a_part_need_not_all_be_there() -> None:
    rules = "[{text: a}, {text: b}], complete: true}"
    text = f"profile: edge\nversion: 1\nclaims:\n  kernel-command-line: {{check: required, accept: {rules}\n"
    draft = next_version(text + f"  initrd: {{check: required, accept: {rules}\n", unified(), replace=True)
    complete = {name: policy.complete for name, policy in draft.profile.by_claim.items()}
    assert (complete["kernel-command-line"], complete["initrd"]) == (False, True)
