"""Where a profile can say what has to be revoked at least: in the two claims whose content says it, and nowhere else."""

import pytest

from attestd.appraisal.document import ProfileError
from attestd.appraisal.policy import CLAIMS, REVOCATION_CLAIMS
from attestd.appraisal.profile import parse_profile_yaml


@pytest.mark.parametrize("claim", sorted(CLAIMS.keys() - REVOCATION_CLAIMS))
@pytest.mark.parametrize("wanted", ["shim,2", f"sha256:{'11' * 32}"])
def test_revocations_of_another_claim_are_refused(claim: str, wanted: str) -> None:
    with pytest.raises(ProfileError):
        parse_profile_yaml(
            f'profile: p\nversion: 1\nclaims: {{{claim}: {{check: optional, accept: [{{revokes: ["{wanted}"]}}]}}}}\n'
        )


@pytest.mark.parametrize(
    ("claim", "wanted"), [("secure-boot-dbx", "shim,2"), ("secure-boot-authority", f"sha256:{'11' * 32}")]
)
def test_each_claim_revokes_in_its_own_words(claim: str, wanted: str) -> None:
    with pytest.raises(ProfileError):
        parse_profile_yaml(
            f'profile: p\nversion: 1\nclaims: {{{claim}: {{check: optional, accept: [{{revokes: ["{wanted}"]}}]}}}}\n'
        )
