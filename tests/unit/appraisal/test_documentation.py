"""docs/appraisal.md says what the code does: its steps, its claims, its keys, its example."""

import json
import re
from pathlib import Path

from attestd.appraisal.ear import PROFILE, VerifierId, ear_claims
from attestd.appraisal.policy import CLAIMS, NEVER_IGNORED
from attestd.appraisal.profile import parse_profile_yaml
from attestd.appraisal.result import CATEGORIES
from attestd.appraisal.steps import BOOT_STEPS, DEVICE_STEPS, category_of

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "appraisal.md").read_text()


def block(language):
    return re.search(rf"```{language}\n(.*?)```", DOCUMENT, re.S).group(1)


def test_its_steps_are_the_steps_of_the_code():
    written = re.findall(r"^\| (\d)\. ([^|]+?) \|", DOCUMENT, re.M)
    steps = [(str(step.number), step.title) for step in (*BOOT_STEPS, *DEVICE_STEPS)]
    assert written[:-1] == steps
    assert written[-1] == ("8", "The result")


def test_its_table_has_every_claim_with_its_description():
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \| [^|]+ \| [^|]+ \| ([a-z-]+) \| (yes|no) \|$", DOCUMENT, re.M)
    assert rows == [
        (claim, text, category_of(claim), "no" if claim in NEVER_IGNORED else "yes") for claim, text in CLAIMS.items()
    ]


def test_its_example_is_a_profile():
    profile = parse_profile_yaml(block("yaml"))
    assert (profile.name, profile.version) == ("edge-gateway", 3)
    assert profile.requires_something


def test_its_result_has_the_claims_of_a_result():
    from appraisal_cases import NOW_MS, boot, component, evidence
    from attestd.appraisal.appraise import appraise

    profile = parse_profile_yaml("profile: a\nversion: 1\nclaims: {loader: {check: required, accept: [{text: x}]}}")
    result = appraise(evidence(boot(component("loader", "x", value="x"))), profile, now_ms=NOW_MS)
    made = ear_claims(result, now=1, lifetime=1, verifier=VerifierId("a", "b", "c"))
    written = json.loads(block("json"))
    assert list(written) == list(made)
    assert written["eat_profile"] == PROFILE
    (shown,), (real,) = written["submods"].values(), made["submods"].values()
    assert shown.keys() == real.keys()
    assert tuple(shown["ear_trustworthiness_vector"]) == CATEGORIES
