"""What profiles of CoRIM ask of a CoMID beyond its form: which environments, which measurements, which keys.

Proves, of a CoMID that is not refused, that it keeps the rules of the manifest's profile as far as they are public: Arm's
endorsements of PSA and CCA (draft-fdb-rats-psa-endorsements, draft-ydb-rats-cca-endorsements, and the forms before them), devices
by SPDM, Parsec's TPM, RIOT. Of other profiles nothing is known here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from attestd.inspection.cborread import Tag
from attestd.inspection.measurement import Measurement
from attestd.inspection.refused import InspectionRefused

_UUID, _UEID, _KEY, _BYTES, _IMPLEMENTATION, _REFERENCE, _CONFIGURATION = 37, 550, 554, 560, 600, 601, 602
_HASHES: Final = (32, 48, 64)
_RAW, _NAME, _KEYS = 4, 11, 13


@dataclass(frozen=True, slots=True)
class MeasurementRule:
    """One kind of measurement. `names` are its texts, `tag` that of its key; neither: any number.

    `digests`: it has digests (1: exactly one); `raw`: a raw value; `signer`: one key that is the hash of the signer's.
    """

    names: tuple[str, ...] = ()
    tag: int | None = None
    digests: int | None = None
    raw: bool = False
    signer: bool = False
    registers: bool = False
    spdm: bool = False

    def is_of(self, key: object) -> bool:
        """Return whether a measurement with this key is of this kind."""
        if self.names:
            return isinstance(key, str) and key in self.names
        if self.tag is not None:
            return isinstance(key, Tag) and key.number == self.tag
        return self.registers or (type(key) is int and key >= 0)


@dataclass(frozen=True, slots=True)
class ProfileRules:
    """What one profile asks for; an empty tuple asks nothing. Numbers are CBOR tags, sizes are bytes.

    `instance_ids` are for keys, and then no reference value may have an instance; `reference_instances` are for reference values,
    and then each has to. `needed` are measurements that every triple has, `once` those that it has exactly once.
    """

    class_ids: tuple[int, ...] = ()
    class_sizes: tuple[int, ...] = ()
    instance_ids: tuple[int, ...] = ()
    reference_instances: tuple[int, ...] = ()
    classes_alone: bool = False
    one_key: bool = False
    key_kinds: tuple[int, ...] = ()
    names_vendor: bool = False
    reference_values: bool = True
    digests: bool = False
    key_is_register: bool = False
    measurements: tuple[MeasurementRule, ...] = ()
    needed: tuple[str, ...] = ()
    once: tuple[str, ...] = ()


def _arm(*measurements: MeasurementRule, needed: tuple[str, ...] = (), once: tuple[str, ...] = ()) -> ProfileRules:
    return ProfileRules(
        class_ids=(_BYTES, _IMPLEMENTATION),
        class_sizes=(32,),
        instance_ids=(_UEID,),
        one_key=True,
        key_kinds=(_KEY,),
        measurements=measurements,
        needed=needed,
        once=once,
    )


_SOFTWARE, _CONFIG, _RIM = "cca.software-component", "cca.platform-config", "cca.rim"
_LEGACY_CCA: Final = _arm(MeasurementRule(tag=_REFERENCE, digests=0), MeasurementRule(tag=_CONFIGURATION, raw=True))
_LEGACY_REALM: Final = ProfileRules(
    reference_instances=(_BYTES,), measurements=(MeasurementRule(registers=True, raw=True),)
)
PROFILES: Final[Mapping[str, ProfileRules]] = {
    "tag:arm.com,2025:psa": _arm(MeasurementRule(names=("psa.software-component",), digests=0, signer=True)),
    "http://arm.com/psa/iot": _arm(MeasurementRule(tag=_REFERENCE, digests=0)),
    "tag:arm.com,2025:cca_platform": _arm(
        MeasurementRule(names=(_SOFTWARE,), digests=0, signer=True),
        MeasurementRule(names=(_CONFIG,), raw=True),
        needed=(_SOFTWARE,),
        once=(_CONFIG,),
    ),
    "tag:arm.com,2023:cca_platform": _LEGACY_CCA,
    "http://arm.com/cca/ssd": _LEGACY_CCA,
    "tag:arm.com,2025:cca_realm": ProfileRules(
        class_ids=(_BYTES,),
        class_sizes=_HASHES,
        measurements=(
            MeasurementRule(names=(_RIM, "cca.rem0", "cca.rem1", "cca.rem2", "cca.rem3"), digests=1),
            MeasurementRule(names=("cca.rpv",), raw=True),
        ),
        needed=(_RIM,),
    ),
    "tag:arm.com,2023:realm": _LEGACY_REALM,
    "http://arm.com/cca/realm": _LEGACY_REALM,
    "tag:linaro.org,2025:device-spdm": ProfileRules(
        class_ids=(_BYTES,), classes_alone=True, measurements=(MeasurementRule(spdm=True),)
    ),
    "tag:github.com/parallaxsecond,2023-03-03:tpm": ProfileRules(
        class_ids=(_UUID,), instance_ids=(_UEID, _BYTES), one_key=True, digests=True, key_is_register=True
    ),
    "tag:veraison-project.com,2026:riot": ProfileRules(names_vendor=True, reference_values=False),
}
"""Beginning of a profile's URI → its rules, as far as they are public."""


def rules_for(profile: str | None) -> ProfileRules | None:
    """Return the rules of a profile that is known here."""
    found = (rules for beginning, rules in PROFILES.items() if profile is not None and profile.startswith(beginning))
    return next(found, None)


def _unfit(message: str) -> InspectionRefused:
    return InspectionRefused("comid-profile", f"the manifest's profile does not allow {message}")


def check_environment(
    kind: int, environment: Mapping[Any, Any], described: Sequence[object], rules: ProfileRules
) -> None:
    """Refuse an environment of a triple of this kind (0: reference values, 3: keys), and keys. *Raises* "comid-profile"."""
    known = environment.get(0)
    names = known if isinstance(known, dict) else {}
    identity = names.get(0)
    if rules.class_ids and not (isinstance(identity, Tag) and identity.number in rules.class_ids):
        raise _unfit("a class without an id of its kind")
    if rules.class_sizes and isinstance(identity, Tag) and _size(identity.value) not in rules.class_sizes:
        raise _unfit("a class id of another size")
    if rules.names_vendor and not (names.get(1) and names.get(2)):
        raise _unfit("a class without vendor and model")
    if rules.classes_alone and set(environment) != {0}:
        raise _unfit("an environment of one instance or group")
    if kind == 0:
        _check_reference(environment, rules)
    if kind == 3:
        _check_keys(environment, described, rules)


def _check_reference(environment: Mapping[Any, Any], rules: ProfileRules) -> None:
    if not rules.reference_values:
        raise _unfit("reference values")
    if rules.instance_ids and 1 in environment:
        raise _unfit("reference values of one instance")
    if rules.reference_instances and not _is_tagged(environment.get(1), rules.reference_instances):
        raise _unfit("reference values without an instance of its kind")


def _check_keys(environment: Mapping[Any, Any], described: Sequence[object], rules: ProfileRules) -> None:
    if rules.instance_ids and not _is_tagged(environment.get(1), rules.instance_ids):
        raise _unfit("a key without an instance of its kind")
    if rules.one_key and len(described) != 1:
        raise _unfit("several keys of one instance")
    if rules.key_kinds and not all(_is_tagged(one, rules.key_kinds) for one in described):
        raise _unfit("a key of another kind")


def check_measurements(measurements: Sequence[Measurement], rules: ProfileRules) -> None:
    """Refuse reference values of one environment that are not as the profile has them. *Raises* "comid-profile"."""
    for one in measurements:
        if rules.digests and not one.digests:
            raise _unfit("a measurement without digests")
        if rules.key_is_register and not (type(one.key) is int and 0 <= one.key < 24):
            raise _unfit("a measurement that names no register")
        if rules.measurements:
            kind = next((rule for rule in rules.measurements if rule.is_of(one.key)), None)
            if kind is None:
                raise _unfit("a measurement of this name, or of none")
            _check_measurement(one, kind)
    counts = {name: sum(one.key == name for one in measurements) for name in (*rules.needed, *rules.once)}
    if any(not counts[name] for name in rules.needed) or any(counts[name] != 1 for name in rules.once):
        raise _unfit(f"an environment without {' and '.join((*rules.needed, *rules.once))}")


def _check_measurement(one: Measurement, rule: MeasurementRule) -> None:
    if rule.digests is not None and (not one.digests or (rule.digests and len(one.digests) != rule.digests)):
        raise _unfit("a measurement without its digest, or with several")
    if rule.digests is not None and any(len(value) not in _HASHES for _, value in one.digests):
        raise _unfit("a digest of another size")
    if rule.raw and _RAW not in one.values:
        raise _unfit("a measurement without its raw value")
    if rule.registers and not one.registers:
        raise _unfit("a measurement without integrity registers")
    if rule.signer and not _is_signer(one.values.get(_KEYS)):
        raise _unfit("a measurement without the hash of its signer's key")
    if rule.spdm and (_NAME not in one.values or bool(one.digests) == (_RAW in one.values)):
        raise _unfit("a measurement without a name, or without one of digests and raw value")


def _is_signer(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 1
        and _is_tagged(value[0], (_BYTES,))
        and _size(value[0].value) in _HASHES
    )


def _is_tagged(value: object, numbers: Sequence[int]) -> bool:
    return isinstance(value, Tag) and value.number in numbers


def _size(value: object) -> int:
    return len(value) if isinstance(value, bytes) else -1
