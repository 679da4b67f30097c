"""Several active versions of one profile: the first that affirms decides, else the mildest speaks."""

from hashlib import sha256

from appraisal_cases import NOW_MS, boot, component, evidence
from attestd.appraisal.policy import Profile, Tier
from attestd.appraisal.profile import parse_profile_yaml
from attestd.protocol.reasons import Reason
from attestd.services.judge import Judgement, judge
from attestd.services.memory import boot_memory

GOOD = evidence(boot(component("loader", "shim")))


def requiring(text: str, *, version: int, more: str = "") -> Profile:
    accept = f"[{{digest: 'sha256:{sha256(text.encode()).hexdigest()}'}}]"
    claims = f"claims: {{loader: {{check: required, accept: {accept}}}}}"
    return parse_profile_yaml(f"profile: edge\nversion: {version}\n{claims}\n{more}")


def judged(*profiles: Profile) -> Judgement:
    return judge(GOOD, profiles, log_digest=bytes(32), boots=boot_memory(), now=NOW_MS)


def test_the_first_version_that_affirms_is_the_result() -> None:
    old, new = requiring("shim", version=1), requiring("other", version=2)
    assert judged(new, old).profile == old


def test_where_none_affirms_the_mildest_is_the_result() -> None:
    warning = requiring("other", version=1, more="tiers: {loader: warning}")
    found = judged(requiring("third", version=2), warning)
    assert (found.profile, found.result.tier) == (warning, Tier.WARNING)


def test_e10_what_only_a_retired_version_accepted_is_refused() -> None:
    assert not judged(requiring("new", version=2)).result.affirming


def test_p01_no_active_version_affirms_nothing() -> None:
    found = judged()
    assert [one.code for one in found.result.findings] == [Reason.POLICY_MISSING]
    assert (found.profile, found.result.affirming) == (None, False)
