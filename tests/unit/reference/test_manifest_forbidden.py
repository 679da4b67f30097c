"""Files of manifests onto a profile that has said something of the runtime list already."""

import pytest

from attestd.appraisal.policy import Check, Profile
from attestd.appraisal.profile import parse_profile_yaml
from attestd.reference.manifest import Source
from attestd.reference.manifest_profile import draft
from attestd.reference.manifest_values import Said, Values


def base(check: str) -> Profile:
    return parse_profile_yaml(f"profile: edge\nversion: 1\nclaims: {{}}\nruntime: {{check: {check}}}\n")


def files() -> Values:
    values = Values()
    source = Source("maker.swidtag", "SWID tag", "id", "1", "a maker", "a signer")
    values.files["/bin/x"] = {("sha256", bytes(32)): Said(source)}
    return values


@pytest.mark.parametrize("replaced", [False, True])
def test_a_runtime_list_that_a_profile_forbids_stays_forbidden_and_is_told(replaced: bool) -> None:
    made = draft(files(), base("absent"), replaced=replaced)
    assert (made.runtime.check, made.runtime.allow) == (Check.ABSENT, ())
    assert [(one.file, one.what) for one in made.left_out] == [("maker.swidtag", "files")]


def test_a_runtime_list_that_was_ignored_and_is_judged_now_is_told() -> None:
    made = draft(files(), base("ignored"))
    assert (made.runtime.check, len(made.runtime.allow)) == (Check.REQUIRED, 1)
    assert made.told == ("runtime: it was ignored, and is required now",)
