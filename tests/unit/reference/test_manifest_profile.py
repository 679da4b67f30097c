"""Manifests and a profile that has more to say than they: what people wrote there stays as it is."""

from attestd.appraisal.policy import Rule
from attestd.appraisal.profile import parse_profile_yaml
from attestd.reference.manifest import Source
from attestd.reference.manifest_profile import draft
from attestd.reference.manifest_values import Said, Values
from attestd.reference.manifest_yaml import next_text

BASE = """\
profile: edge
version: 3
claims:
  secure-boot-authority:
    check: required
    accept:
      - revokes: ["shim,2", "grub,3"]
"""


def test_generations_that_have_to_be_revoked_stay_in_a_profile_that_manifests_are_added_to():
    base = parse_profile_yaml(BASE)
    said = Said(Source("box.corim", "corim", "box-1", "2.0", "ACME", None))
    values = Values(claims={"secure-boot-authority": {Rule(text="sbat,1,2024010900"): said}})

    text = next_text(BASE, base, draft(values, base), values, [], name="edge", version=4)

    accepted = parse_profile_yaml(text).by_claim["secure-boot-authority"].accept
    assert set(accepted) == {Rule(revokes=("grub,3", "shim,2")), Rule(text="sbat,1,2024010900")}
