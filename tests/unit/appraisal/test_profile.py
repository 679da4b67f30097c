"""Profile documents: what they say, and that nothing in one is silently ignored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestd.appraisal.document import write_json
from attestd.appraisal.policy import CLAIMS, NEVER_IGNORED, Check, Tier
from attestd.appraisal.profile import ProfileError, canonical, load_profile, parse_profile_yaml

ZERO = "sha256:" + "00" * 32
HEAD = "profile: edge\nversion: 3\n"
FULL = f"""
profile: edge-gateway
version: 3
description: Gateways of the first series
interval: 60
deadline: 300
claims:
  secure-boot:
    check: required
    accept: [{{text: enabled}}]
  kernel:
    check: required
    complete: true
    accept:
      - digest: {ZERO}
        note: 6.1.0-56
      - glob: "vmlinuz-*"
  gpt: {{check: ignored}}
  uki-section: {{check: absent}}
pcrs:
  0: [{ZERO}]
  14: ignored
runtime:
  check: required
  violations: warn
  exclude: ["/tmp/*"]
  allow:
    /init: [{ZERO}]
tpm:
  manufacturers: [IFX]
  firmware-versions: ["0x0007005500420001"]
tiers:
  gpt: warning
"""


def parsed(text):
    return parse_profile_yaml(HEAD + text)


def test_a_whole_profile_is_read():
    profile = parse_profile_yaml(FULL)
    assert (profile.name, profile.version, profile.interval, profile.deadline) == ("edge-gateway", 3, 60, 300)
    assert profile.by_claim["kernel"].complete
    assert profile.by_claim["gpt"].check is Check.IGNORED
    assert profile.tpm.firmware_versions == (0x0007005500420001,)
    assert profile.tier_of("gpt") is Tier.WARNING
    assert profile.tier_of("kernel") is Tier.CONTRAINDICATED
    assert profile.requires_something


def test_a_profile_survives_its_canonical_form():
    profile = parse_profile_yaml(FULL)
    again = load_profile(canonical(profile))
    assert again == profile
    assert again.digest == profile.digest


def test_the_same_meaning_has_the_same_bytes():
    first = parsed(f"claims: {{kernel: {{check: required, accept: [{{digest: {ZERO}}}, {{text: a}}]}}}}")
    second = parsed(
        f"interval: 60\nclaims:\n  kernel:\n    accept:\n      - text: 'a'\n      - digest: {ZERO.upper().replace('SHA', 'sha')}\n"
        "    check: 'required'\n"
    )
    assert canonical(first) == canonical(second)


def test_bytes_that_are_not_the_canonical_ones_are_refused():
    data = canonical(parse_profile_yaml(FULL))
    with pytest.raises(ProfileError):
        load_profile(data.replace(b'"interval":60,', b""))


def test_what_is_not_said_has_safe_values():
    profile = parsed("")
    assert profile.runtime.check is Check.IGNORED
    assert (profile.interval, profile.deadline) == (60, 300)
    assert profile.tier_of("anything") is Tier.CONTRAINDICATED


def test_p01_a_profile_that_requires_nothing_says_so():
    assert not parsed("claims: {gpt: {check: ignored}, mok: {check: absent}}\npcrs: {3: ignored}").requires_something


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("clams: {}", "clams"),
        ("claims: {kernal: {check: ignored}}", "claims.kernal"),
        ("claims: {gpt: {chek: ignored}}", "claims.gpt.chek"),
        ("claims: {gpt: {}}", "claims.gpt.check"),
        ("claims: {gpt: {check: maybe}}", "claims.gpt.check"),
        ("claims: {gpt: {check: required}}", "claims.gpt"),
        ("claims: {gpt: {check: required, accept: []}}", "claims.gpt.accept"),
        ("claims: {gpt: {check: optional}}", "claims.gpt"),
        ("claims: {gpt: {check: ignored, accept: [{text: a}]}}", "claims.gpt"),
        ("claims: {gpt: {check: absent, complete: true}}", "claims.gpt"),
        ("claims: {gpt: {check: required, accept: [{text: a, glob: b}]}}", "claims.gpt.accept[0]"),
        ("claims: {gpt: {check: required, accept: [{note: a}]}}", "claims.gpt.accept[0]"),
        ("claims: {gpt: {check: required, accept: [{text: 1}]}}", "claims.gpt.accept[0].text"),
        ("claims: {gpt: {check: required, accept: [{digest: 'sha256:00'}]}}", "claims.gpt.accept[0].digest"),
        (
            "claims: {gpt: {check: required, accept: [{digest: 'md5:" + "00" * 16 + "'}]}}",
            "claims.gpt.accept[0].digest",
        ),
        ("claims: {gpt: {check: required, accept: [{glob: '*'}]}}", "claims.gpt.accept[0].glob"),
        ("claims: {gpt: {check: required, accept: [{glob: '" + "a" * 257 + "'}]}}", "claims.gpt.accept[0].glob"),
        ("claims: {gpt: {check: required, complete: 'x', accept: [{text: a}]}}", "claims.gpt.complete"),
        ("claims: []", "claims"),
        ("pcrs: {24: ignored}", "pcrs.24"),
        ("pcrs: {10: ignored}", "pcrs.10"),
        ("pcrs: {'01': ignored}", "pcrs.01"),
        ("pcrs: {-1: ignored}", "pcrs.-1"),
        ("pcrs: {0: []}", "pcrs.0"),
        ("pcrs: {0: whatever}", "pcrs.0"),
        ("runtime: {check: required}", "runtime.allow"),
        ("runtime: {check: required, allow: {/init: []}}", "runtime.allow./init"),
        ("runtime: {check: ignored, violations: sometimes}", "runtime.violations"),
        ("runtime: {check: ignored, excludes: []}", "runtime.excludes"),
        ("runtime: {check: ignored, exclude: ['**']}", "runtime.exclude[0]"),
        ("tpm: {firmware-versions: [1]}", "tpm.firmware-versions[0]"),
        ("tpm: {firmware-versions: ['123']}", "tpm.firmware-versions[0]"),
        ("tiers: {kernal: warning}", "tiers.kernal"),
        ("tiers: {kernel: affirming}", "tiers.kernel"),
        ("interval: 1", "interval"),
        ("interval: true", "interval"),
        ("interval: 600\ndeadline: 60", "deadline"),
        ("interval: 86401", "interval"),
    ],
)
def test_every_mistake_is_refused_and_its_place_is_named(text, path):
    with pytest.raises(ProfileError) as caught:
        parsed(text)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "text", ["version: 1", "profile: a", "profile: A b\nversion: 1", "profile: a\nversion: 0", "[]"]
)
def test_a_profile_needs_a_name_and_a_version(text):
    with pytest.raises(ProfileError):
        parse_profile_yaml(text)


@pytest.mark.parametrize("claim", sorted(NEVER_IGNORED))
def test_e01_a_claim_that_a_label_can_choose_cannot_be_ignored(claim):
    with pytest.raises(ProfileError, match="cannot be ignored"):
        parsed(f"claims: {{{claim}: {{check: ignored}}}}")


def test_every_claim_is_described():
    assert all(text for text in CLAIMS.values())
    assert CLAIMS.keys() >= NEVER_IGNORED


texts = st.text(min_size=1, max_size=20).filter(str.isprintable)


@given(st.lists(st.tuples(st.sampled_from(sorted(CLAIMS)), texts, texts), max_size=5))
def test_any_profile_survives_its_canonical_form(entries):
    claims = {name: {"check": "optional", "accept": [{"text": text, "note": note}]} for name, text, note in entries}
    # JSON is YAML as long as nothing in it is invisible.
    profile = parse_profile_yaml(write_json({"profile": "p", "version": 1, "claims": claims}).decode())
    assert load_profile(canonical(profile)) == profile
