"""A first profile out of good machines."""

from dataclasses import replace

import pytest

from appraisal_cases import NOW_MS, boot, component, evidence, quote
from attestd.appraisal.appraise import appraise
from attestd.appraisal.learn import CannotLearn, learn
from attestd.appraisal.policy import Check
from attestd.appraisal.profile import parse_profile_yaml
from attestd.evidence.types import EvidenceFinding, RuntimeEntry, RuntimeFacts
from attestd.protocol.reasons import Reason

LOADER = component("loader", "shim")


def learnt(*boots, **parts):
    evidences = [evidence(facts, **parts) for facts in boots]
    text = learn(evidences, name="edge", version=1)
    profile = parse_profile_yaml(text)
    for each in evidences:
        assert appraise(each, profile, now_ms=NOW_MS).affirming
    return profile, text


def test_a_profile_learnt_from_one_machine_accepts_it_and_no_other():
    profile, text = learnt(boot(LOADER, component("gpt", "disk", pcr=5, value="disk 1")))
    assert "Learnt from 1 machine" in text
    other = boot(component("loader", "evil"), component("gpt", "disk", pcr=5, value="disk 1"))
    assert not appraise(evidence(other), profile, now_ms=NOW_MS).affirming


def test_a_claim_that_only_some_machines_make_is_optional():
    profile, text = learnt(boot(LOADER), boot(LOADER, component("mok", "keys", pcr=14)))
    assert profile.by_claim["mok"].check is Check.OPTIONAL
    assert "on 1 of 2 machines" in text


def test_all_that_every_machine_has_must_be_there():
    profile, _ = learnt(*[boot(LOADER, component("firmware", "a", pcr=0), component("firmware", "b", pcr=0))] * 2)
    assert profile.by_claim["firmware"].complete


def test_what_differs_and_is_no_code_is_not_judged_and_a_comment_says_so():
    profile, text = learnt(*(boot(LOADER, component("gpt", d, pcr=5, value=d)) for d in ("disk 1", "disk 2")))
    assert profile.by_claim["gpt"].check is Check.IGNORED
    assert "differs between good machines" in text


def test_code_that_differs_is_listed_and_a_comment_says_so():
    profile, text = learnt(boot(LOADER), boot(component("loader", "other shim")))
    assert len(profile.by_claim["loader"].accept) == 2
    assert "what any of them had is accepted" in text


def test_texts_that_differ_in_one_part_become_a_pattern():
    lines = ("root=UUID=1111-2222 ro quiet splash", "root=UUID=3333-4444 ro quiet splash")
    profile, text = learnt(*(boot(LOADER, component("kernel-command-line", line, pcr=8, value=line)) for line in lines))
    assert [rule.glob for rule in profile.by_claim["kernel-command-line"].accept] == ["root=UUID=* ro quiet splash"]
    assert "a pattern stands for it" in text


def test_texts_that_have_little_in_common_are_listed():
    lines = ("quiet", "debug verbose")
    profile, _ = learnt(*(boot(LOADER, component("kernel-command-line", line, pcr=8, value=line)) for line in lines))
    assert {rule.text for rule in profile.by_claim["kernel-command-line"].accept} == set(lines)


def line(text, claim="kernel-command-line"):
    return boot(LOADER, component(claim, text, pcr=8, value=text))


def learnt_lines(*texts, claim="kernel-command-line"):
    """Return the profile learnt from machines with these lines, and its rules as (text, glob)."""
    profile, _ = learnt(*(line(text, claim) for text in texts))
    return profile, {(rule.text, rule.glob) for rule in profile.by_claim[claim].accept}


@pytest.mark.parametrize(
    ("lines", "pattern"),
    [
        (("/vmlinuz root=UUID=1111 ro", "/vmlinuz root=UUID=2222 ro"), "/vmlinuz root=UUID=* ro"),
        (
            ("/vmlinuz-6.1 root=UUID=1111 ro hostname=gate-1", "/vmlinuz-6.9 root=UUID=2222 ro hostname=gate-2"),
            "/vmlinuz-6.* root=UUID=* ro hostname=gate-*",
        ),
        (("quiet x=\u00e9 root=UUID=1111", "quiet x=\u00e9 root=UUID=2222"), "quiet x=\u00e9 root=UUID=*"),
    ],
)
def test_lines_become_a_pattern_argument_by_argument(lines, pattern):
    profile, rules = learnt_lines(*lines)
    assert rules == {(None, pattern)}
    for evil in (f"{lines[0]} init=/bin/sh", lines[0].replace("root=UUID=1111", "root=UUID=1111 init=/bin/sh")):
        assert not appraise(evidence(line(evil)), profile, now_ms=NOW_MS).affirming


@pytest.mark.parametrize(
    "lines",
    [
        ("root=/dev/sda1 ro", "root=/dev/sda1 rw"),
        ("root=/dev/sda1 lockdown=integrity", "root=/dev/sda1 lockdown=confidentiality"),
        ("root=/dev/sda1 quiet selinux=0", "root=/dev/sda1 quiet selinux=1"),
        ("root=/dev/sda1 ro", "root=/dev/sda1 ro quiet"),
        ("root=/dev/sda1 gate1111", "root=/dev/sda1 gate2222"),
        ("root=/dev/sda1 1111-2222", "root=/dev/sda1 3333-4444"),
        ('root=UUID="1111" ro', 'root=UUID="22 22" ro'),
        ("root=UUID=1111\u00e0 ro quiet", "root=UUID=2222\u00e9 ro quiet"),
    ],
)
def test_lines_that_differ_in_more_than_what_identifies_a_machine_are_listed(lines):
    _, rules = learnt_lines(*lines)
    assert rules == {(text, None) for text in lines}


def test_the_file_system_that_a_boot_loader_searches_becomes_a_pattern():
    lines = ("search.fs_uuid 1111-2222 root hd0,gpt2", "search.fs_uuid 3333-4444 root hd0,gpt2")
    _, rules = learnt_lines(*lines, claim="grub-command")
    assert rules == {(None, "search.fs_uuid * root hd0,gpt2")}


def test_a_text_that_contains_a_star_is_taken_as_it_is():
    profile, _ = learnt(boot(LOADER, component("grub-command", "x", pcr=8, value="set pager=*")))
    assert profile.by_claim["grub-command"].accept[0].text == "set pager=*"


@pytest.mark.parametrize(
    "value", ['a"b\\c', "line\nline", "\x00\x7f\u2028\ufeff", "# no: comment", "ünïcödé 🙂", "'", "- [x", "a: b"]
)
def test_any_text_survives(value):
    learnt(boot(LOADER, component("grub-command", "x", pcr=8, value=value)))


def test_a_register_that_nothing_explains_is_named():
    facts = replace(boot(LOADER), explained=boot().explained - {14}, unlogged=frozenset({14}))
    profile, text = learnt(facts)
    assert [register.index for register in profile.registers] == [14]
    assert "no log explains" in text


def test_a_register_that_was_not_quoted_and_could_make_a_learnt_claim_is_named():
    quoted = quote(pcrs=tuple((index, bytes(32)) for index in range(11)))
    profile, text = learnt(line("root=/dev/sda1 ro"), quoted=quoted)
    assert [(register.index, register.values) for register in profile.registers] == [(11, ()), (12, ())]
    assert text.count("not quoted: nothing is known of it") == 2


def test_files_are_listed_with_all_their_contents():
    runtime = RuntimeFacts(
        offset=0,
        count=1,
        value=bytes(32),
        convention="bank",
        violations=1,
        boot_aggregate="matches",
        entries=(
            RuntimeEntry(1, b"/init", "sha256", bytes(32)),
            RuntimeEntry(2, b"/init", "sha256", b"\x01" * 32),
            RuntimeEntry(3, b'/a: #"b', "sha256", bytes(32)),
        ),
    )
    profile, text = learnt(boot(LOADER), runtime=runtime)
    assert "2 contents on good machines" in text
    assert profile.runtime.violations.value == "allow"
    assert {path for path, _ in profile.runtime.allow} == {"/init", '/a: #"b'}


def test_a_path_that_is_not_text_is_mentioned_and_cannot_be_listed():
    entries = (RuntimeEntry(1, b"/init", "sha256", bytes(32)), RuntimeEntry(2, b"/\xff", "sha256", bytes(32)))
    runtime = RuntimeFacts(
        offset=0, count=2, value=bytes(32), convention="bank", violations=0, boot_aggregate="matches", entries=entries
    )
    text = learn([evidence(boot(LOADER), runtime=runtime)], name="edge", version=1)
    assert "is not UTF-8" in text
    assert len(parse_profile_yaml(text).runtime.allow) == 1


def test_the_tpm_is_suggested_and_not_pinned():
    profile, text = learnt(boot(LOADER))
    assert profile.tpm.firmware_versions == ()
    assert f"{quote().firmware_version:#018x}" in text


@pytest.mark.parametrize(
    "facts",
    [
        None,
        replace(boot(LOADER), findings=(EvidenceFinding(Reason.LOG_ORDER, "a", "b"),)),
        replace(boot(LOADER), explained=frozenset(range(7))),
    ],
    ids=["no-log", "faulty", "unexplained"],
)
def test_nothing_is_learnt_from_a_machine_at_fault(facts):
    with pytest.raises(CannotLearn):
        learn([evidence(facts)], name="edge", version=1)


def test_nothing_is_learnt_from_nothing():
    with pytest.raises(CannotLearn):
        learn([], name="edge", version=1)
