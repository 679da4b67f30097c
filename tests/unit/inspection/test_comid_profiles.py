"""The rules of profiles that are known: one good manifest of each, and every rule broken once."""

import cbor2
import pytest

from attestd.inspection.corim import inspect_corim
from inspecting import refusal_of

AT = 1_795_350_000
HASH = bytes(range(32))
KEY = cbor2.CBORTag(554, "-----BEGIN PUBLIC KEY-----")
SIGNER = [cbor2.CBORTag(560, HASH)]


def tagged(number, value=HASH):
    return cbor2.CBORTag(number, value)


def software(name, **changes):
    return {0: name, 1: {2: [[1, HASH]], 13: SIGNER, **changes.get("values", {})}}


CLASS = {0: {0: tagged(560)}}
INSTANCE = {1: tagged(550, b"\1" + HASH)}
CONFIG = {0: "cca.platform-config", 1: {4: tagged(560, b"\1")}}
GOOD = {
    "tag:arm.com,2025:psa#1.0.0": {
        0: [[CLASS, [software("psa.software-component")]]],
        3: [[{**CLASS, **INSTANCE}, [KEY]]],
    },
    "http://arm.com/psa/iot/1": {0: [[{0: {0: tagged(600)}}, [{0: tagged(601, {1: "BL"}), 1: {2: [[1, HASH]]}}]]]},
    "tag:arm.com,2025:cca_platform#1.0.0": {
        0: [[CLASS, [software("cca.software-component"), CONFIG]]],
        3: [[{**CLASS, **INSTANCE}, [KEY]]],
    },
    "http://arm.com/cca/ssd/1": {0: [[{0: {0: tagged(600)}}, [{0: tagged(602, "cfg"), 1: {4: tagged(560)}}]]]},
    "tag:arm.com,2025:cca_realm#1.0.0": {
        0: [[CLASS, [{0: "cca.rim", 1: {2: [[1, HASH]]}}, {0: "cca.rpv", 1: {4: tagged(560)}}]]]
    },
    "http://arm.com/cca/realm/1": {0: [[{1: tagged(560)}, [{1: {4: tagged(560), 14: {"rim": [[1, HASH]]}}}]]]},
    "tag:linaro.org,2025:device-spdm#1.0.0": {
        0: [[{0: {0: tagged(560, b"a device")}}, [{0: 1, 1: {11: "firmware", 2: [[1, HASH]]}}]]]
    },
}


def fresh(value):
    """Return a copy whose maps and lists may be changed."""
    if isinstance(value, dict):
        return {key: fresh(one) for key, one in value.items()}
    return [fresh(one) for one in value] if isinstance(value, list) else value


def manifest(profile, triples):
    comid = cbor2.CBORTag(506, cbor2.dumps({1: {0: "a tag"}, 4: triples}))
    return cbor2.dumps(cbor2.CBORTag(501, {0: "m", 1: [comid], 3: cbor2.CBORTag(32, profile)}))


@pytest.mark.parametrize("profile", GOOD)
def test_a_manifest_that_keeps_its_profiles_rules_is_accepted(profile):
    report = inspect_corim(manifest(profile, GOOD[profile]), at=AT)

    assert (report.accepted, any("not known" in note for note in report.notes)) == (True, False)


PSA, PLATFORM, REALM = (f"tag:arm.com,2025:{name}#1.0.0" for name in ("psa", "cca_platform", "cca_realm"))
LEGACY, SPDM = "http://arm.com/cca/realm/1", "tag:linaro.org,2025:device-spdm#1.0.0"
BROKEN = {
    "no class": (PSA, lambda t: t[0][0][0].clear() or t[0][0][0].update(INSTANCE)),
    "a class of another kind": (PSA, lambda t: t[0][0][0].update({0: {0: tagged(37, bytes(16))}})),
    "a class id of another size": (PSA, lambda t: t[0][0][0].update({0: {0: tagged(560, b"short")}})),
    "an instance of a reference value": (PSA, lambda t: t[0][0][0].update(INSTANCE)),
    "another name": (PSA, lambda t: t[0][0][1][0].update({0: "another"})),
    "a name of another kind": (PSA, lambda t: t[0][0][1][0].update({0: 4})),
    "no name": (PSA, lambda t: t[0][0][1][0].pop(0)),
    "no digests": (PSA, lambda t: t[0][0][1][0][1].pop(2)),
    "no signer": (PSA, lambda t: t[0][0][1][0][1].pop(13)),
    "a signer that is a key": (PSA, lambda t: t[0][0][1][0][1].update({13: [KEY]})),
    "two signers": (PSA, lambda t: t[0][0][1][0][1].update({13: SIGNER * 2})),
    "a key without an instance": (PSA, lambda t: t[3][0][0].pop(1)),
    "a key that is a certificate": (PSA, lambda t: t[3][0].__setitem__(1, [cbor2.CBORTag(555, "cert")])),
    "two keys": (PSA, lambda t: t[3][0].__setitem__(1, [KEY, KEY])),
    "no configuration": (PLATFORM, lambda t: t[0][0][1].pop()),
    "two configurations": (PLATFORM, lambda t: t[0][0][1].append(CONFIG)),
    "a configuration without a value": (PLATFORM, lambda t: t[0][0][1][1].update({1: {11: "x"}})),
    "no initial measurement": (REALM, lambda t: t[0][0][1].pop(0)),
    "two digests of one": (REALM, lambda t: t[0][0][1][0][1].update({2: [[1, HASH], [1, HASH]]})),
    "no personalisation": (REALM, lambda t: t[0][0][1][1].update({1: {11: "x"}})),
    "a realm without an instance": (LEGACY, lambda t: t[0][0][0].clear() or t[0][0][0].update(CLASS)),
    "no registers": (LEGACY, lambda t: t[0][0][1][0][1].pop(14)),
    "an instance of a device": (SPDM, lambda t: t[0][0][0].update(INSTANCE)),
    "a measurement that is not numbered": (SPDM, lambda t: t[0][0][1][0].update({0: "one"})),
    "a measurement without a name": (SPDM, lambda t: t[0][0][1][0][1].pop(11)),
    "digest and value": (SPDM, lambda t: t[0][0][1][0][1].update({4: tagged(560)})),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_manifest_against_its_profile_is_refused(name):
    profile, breaks = BROKEN[name]
    triples = fresh(GOOD[profile])
    breaks(triples)
    assert triples != GOOD[profile]

    assert refusal_of(lambda: inspect_corim(manifest(profile, triples), at=AT)) == "comid-profile"
