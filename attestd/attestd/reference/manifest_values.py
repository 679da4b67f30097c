"""What manifests say becomes what a profile accepts: components out of support logs, register values, files. Nothing is guessed.

Proves that every value is one that a vouched manifest says, by itself or by the hash of the log that says it, and keeps beside each
where it was said. What a profile cannot express is left out and told, never approximated; a profile that says less accepts less.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import new
from typing import Final, NamedTuple

from attestd.appraisal.policy import CLAIMS, Rule
from attestd.evidence.components import components
from attestd.evidence.labels import printable
from attestd.inspection.measurement import Digest, Measurement
from attestd.inspection.swid import File
from attestd.protocol.limits import MAX_FILE_PATH, MAX_FINDING_TEXT, PCR_COUNT
from attestd.reference.manifest import Manifest, ManifestRefused, Source
from attestd.tpm.errors import Malformed
from attestd.tpm.eventlog import Event, EventLog, parse_event_log

_HASHES: Final = ("sha256", "sha384", "sha512")
"""What a value may rest on, the usual bank first; SHA-1 is read and never used."""
_REGISTER_NAME: Final = re.compile(r"(?:tpm2?[ _-]?)?pcr[ _\-\[]?(\d{1,2})\]?", re.IGNORECASE)
_REGISTERS_NAME: Final = re.compile(r"(?:tpm2?[ _-]?)?pcrs?", re.IGNORECASE)
_CLAIM_NAME: Final = "attestd:"
_RUNTIME_REGISTER: Final = 10
_FIRMWARE_REGISTERS: Final = 8
_LOADER_REGISTER: Final = 4
_STARTED: Final = frozenset({"loader", "application"})
_PROVED: Final = frozenset(range(PCR_COUNT))


class Said(NamedTuple):
    """A value and where it was said; `log` is the support log's name, or empty."""

    source: Source
    log: str = ""

    @property
    def text(self) -> str:
        """Return the comment beside the value."""
        return f"{self.source.text}, {printable(self.log)}" if self.log else self.source.text


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something a manifest says and a profile cannot."""

    file: str
    what: str
    why: str

    @property
    def text(self) -> str:
        """Return it as one sentence."""
        return f"{self.file}: {printable(self.what[:MAX_FINDING_TEXT])}: {self.why}"


@dataclass(slots=True)
class Values:
    """What a profile is going to say, each with where it was said first; `left_out` is what it cannot say."""

    claims: dict[str, dict[Rule, Said]] = field(default_factory=dict)
    registers: dict[int, dict[Digest, Said]] = field(default_factory=dict)
    files: dict[str, dict[Digest, Said]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    logs: list[tuple[str, str, str]] = field(default_factory=list)
    """(name, algorithm:digest, the manifest's file) of each support log that was used."""

    @property
    def empty(self) -> bool:
        """Return whether there is nothing to say."""
        return not (self.claims or self.registers or self.files)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the operator says that a manifest does not: that its numbers are registers, which environment is meant, which bank."""

    numbers_are_registers: bool = False
    environment: str = ""
    bank: str = ""


def values_of(manifests: Sequence[Manifest], logs: Mapping[str, bytes], reading: Reading) -> Values:
    """Return what the manifests say together. `logs` are support logs by name, in order.

    Manifests that build on another come behind it. *Raises* `ManifestRefused`: "support-log-altered", "support-log-unlisted",
    "support-log-needed", "support-log-unsound", "support-log-partial", "support-log-weak", "environment-ambiguous",
    "environment-unknown", "manifest-inexpressible".
    """
    ordered = sorted(manifests, key=lambda one: one.builds_on)
    found = Values()
    _from_logs(found, ordered, logs, reading)
    _from_measurements(found, ordered, reading)
    for manifest in ordered:
        for file in manifest.files:
            _from_file(found, manifest.source, file)
    if found.empty:
        message = "nothing it says can be expressed in a profile" if found.left_out else "no manifest has values"
        left_out = [one.text for one in found.left_out]
        raise ManifestRefused("manifest-inexpressible", message, left_out=left_out)
    return found


# --- Support logs ---------------------------------------------------------------------------------------------------


def _from_logs(found: Values, manifests: Sequence[Manifest], logs: Mapping[str, bytes], reading: Reading) -> None:
    used: list[tuple[Manifest, str, EventLog]] = []
    owners = {name: _owner(name, data, manifests) for name, data in logs.items()}
    for manifest in manifests:
        for name, (owner, digest) in owners.items():
            if owner is manifest:
                used.append((manifest, name, _parsed(name, logs[name])))
                found.logs.append((name, digest, manifest.source.file))
        _check_given(found, manifest, {digest for owner, digest in owners.values() if owner is manifest})
    if used:
        _from_events(found, used, _bank(used, reading))


def _owner(name: str, data: bytes, manifests: Sequence[Manifest]) -> tuple[Manifest, str]:
    """Return the manifest that lists a log by its hash, and that hash."""
    digests = {f"{algorithm}:{new(algorithm, data).hexdigest()}" for algorithm in _HASHES}
    for manifest in manifests:
        for file in (*manifest.support, *manifest.files):
            same = digests & set(file.hashes)
            if same:
                return manifest, min(same)
    listed = {_name(file) for manifest in manifests for file in (*manifest.support, *manifest.files)}
    if name.rpartition("/")[2] in listed:
        raise ManifestRefused("support-log-altered", f"{name} is not what the manifest lists: its hash is another one")
    raise ManifestRefused("support-log-unlisted", f"no manifest lists {name}, by its hash or by its name")


def _name(file: File) -> str:
    return file.path.replace("\\", "/").rpartition("/")[2]


def _check_given(found: Values, manifest: Manifest, given: set[str]) -> None:
    """Refuse a reference manifest without any of its logs: what it says is in them. One of several may stay away, and is told."""
    listed = [file for file in manifest.support if file.kind == "file"]
    missing = [file for file in listed if not given & set(file.hashes)]
    if listed and len(missing) == len(listed):
        names = ", ".join(printable(_name(file)) for file in listed[:4])
        message = f"its values are in what it lists: --support-log {names}"
        raise ManifestRefused("support-log-needed", f"{manifest.source.file}: {message}")
    for file in missing:
        found.left_out.append(LeftOut(manifest.source.file, file.path, "this support log was not given"))
    for file in manifest.support:
        if file.kind != "file":
            why = "a measurement that is no boot event, register or file"
            found.left_out.append(LeftOut(manifest.source.file, _described(file), why))


def _described(file: File) -> str:
    return f"{file.kind} {file.path} {', '.join(file.hashes[:4])}".strip()


def _parsed(name: str, data: bytes) -> EventLog:
    try:
        return parse_event_log(data)
    except Malformed as error:
        raise ManifestRefused("support-log-unsound", f"{name} cannot be read: {error}") from None


def _bank(used: Sequence[tuple[Manifest, str, EventLog]], reading: Reading) -> str:
    """Return the bank that is asked for, or the first of those that all logs have."""
    shared = set.intersection(*(set(log.algorithms) for _, _, log in used))
    wanted = (reading.bank,) if reading.bank else _HASHES
    bank = next((one for one in wanted if one in shared and one in _HASHES), None)
    if bank is None:
        message = (
            f"no support log has digests of {' or '.join(wanted)}, only of {', '.join(sorted(shared)) or 'others'}"
        )
        raise ManifestRefused("support-log-weak", message)
    return bank


def _from_events(found: Values, used: Sequence[tuple[Manifest, str, EventLog]], bank: str) -> None:
    """Add what one boot over all logs, in their order, would say: the claims that evidence makes of the same events."""
    events: list[Event] = []
    origins: list[Said] = []
    for manifest, name, log in used:
        for event in log.events:
            events.append(event._replace(index=len(events)))
            origins.append(Said(manifest.source, name))
    separated = False
    for component, altered in components(events, bank, registers=_PROVED):
        origin = origins[component.event]
        if altered:
            message = f"an event of PCR {component.pcr} whose data is not what was hashed ({component.label})"
            raise ManifestRefused("support-log-unsound", f"{origin.log}: {message}")
        separated = separated or (component.pcr == _LOADER_REGISTER and component.claim == "separator")
        if component.claim in _STARTED and not separated:
            message = f"{origin.log} begins where another log ends: give the manifest that it builds on, too"
            raise ManifestRefused("support-log-partial", message)
        rule = _rule(component.value, (bank, component.digest), component.label)
        found.claims.setdefault(component.claim, {}).setdefault(rule, origin)


def _rule(value: str | None, digest: Digest, label: str) -> Rule:
    if value is not None and len(value) <= MAX_FINDING_TEXT:
        return Rule(text=value)
    return Rule(digest=digest, note=label)


# --- Measurements ---------------------------------------------------------------------------------------------------


def _from_measurements(found: Values, manifests: Sequence[Manifest], reading: Reading) -> None:
    usable: list[tuple[str, Said, Measurement, bool]] = []
    for manifest in manifests:
        numbers = manifest.numbers_are_registers or reading.numbers_are_registers
        for place, measurement in manifest.measured:
            why = _unusable(measurement, numbers)
            if why:
                found.left_out.append(LeftOut(manifest.source.file, f"{place} {measurement.text}", why))
            else:
                usable.append((place, Said(manifest.source), measurement, numbers))
    chosen = _environment(dict.fromkeys(place for place, _, _, _ in usable), reading.environment)
    for place, said, measurement, numbers in usable:
        if place != chosen:
            left = LeftOut(said.source.file, f"{place} {measurement.text}", "another environment was asked for")
            found.left_out.append(left)
            continue
        _from_measurement(found, said, measurement, numbers)


def _environment(places: Iterable[str], wanted: str) -> str:
    """Return the environment that is meant: a profile is for one class of devices."""
    known = list(places)
    fitting = [place for place in known if place == wanted] or [place for place in known if wanted in place]
    if known and not fitting:
        raise ManifestRefused("environment-unknown", f"no values for {wanted!r}; there are: {'; '.join(known[:8])}")
    if len(fitting) > 1:
        message = f"values for several environments, and a profile is for one (--environment): {'; '.join(fitting[:8])}"
        raise ManifestRefused("environment-ambiguous", message)
    return fitting[0] if fitting else ""


def _unusable(measurement: Measurement, numbers: bool) -> str:
    """Return why a measurement cannot be used, or an empty text."""
    if measurement.authorized:
        return "only counts if another key signed the evidence"
    if _claim(measurement.key) is not None:
        return "" if measurement.digests else "a component without a digest"
    if _register(measurement.key, numbers) is not None:
        return "" if measurement.digests else "a register without a digest"
    if any(
        _register(name, numbers or _names_registers(measurement.key)) is not None for name, _ in measurement.registers
    ):
        return ""
    if isinstance(measurement.key, int) and measurement.key < PCR_COUNT:
        return "nothing says that this number is a register (--numbers-are-registers)"
    return "nothing says which register or component this is"


def _register(name: object, numbers: bool) -> int | None:
    """Return the register that a name means: "PCR 4", or a number where numbers are registers."""
    if type(name) is int:
        return name if numbers and 0 <= name < PCR_COUNT else None
    match = _REGISTER_NAME.fullmatch(name.strip()) if isinstance(name, str) else None
    number = int(match[1]) if match else PCR_COUNT
    return number if number < PCR_COUNT else None


def _names_registers(key: object) -> bool:
    return isinstance(key, str) and _REGISTERS_NAME.fullmatch(key.strip()) is not None


def _claim(name: object) -> str | None:
    """Return the claim that a measurement's key names: `attestd:` and the claim."""
    known = isinstance(name, str) and name.startswith(_CLAIM_NAME) and name.removeprefix(_CLAIM_NAME) in CLAIMS
    return name.removeprefix(_CLAIM_NAME) if known and isinstance(name, str) else None


def _from_measurement(found: Values, said: Said, measurement: Measurement, numbers: bool) -> None:
    for other in measurement.others:
        found.left_out.append(
            LeftOut(said.source.file, other, "a profile has no place for it: its digest counts alone")
        )
    claim = _claim(measurement.key)
    if claim is not None:
        for digest in _strong(found, said, measurement.digests, f"attestd:{claim}"):
            found.claims.setdefault(claim, {}).setdefault(Rule(digest=digest), said)
        return
    number = _register(measurement.key, numbers)
    if number is not None:
        _from_register(found, said, number, measurement.digests)
    named = numbers or _names_registers(measurement.key)
    for name, digests in measurement.registers:
        inner = _register(name, named)
        if inner is None:
            found.left_out.append(LeftOut(said.source.file, f"register {name}", "nothing says which register this is"))
        else:
            _from_register(found, said, inner, digests)


def _from_register(found: Values, said: Said, number: int, digests: Sequence[Digest]) -> None:
    if number == _RUNTIME_REGISTER:
        left = LeftOut(
            said.source.file, "PCR 10", "the runtime list decides about it: its value is never the same twice"
        )
        found.left_out.append(left)
        return
    for digest in _strong(found, said, digests, f"PCR {number}"):
        if number < _FIRMWARE_REGISTERS and not any(digest[1]):
            why = "all zero: what a register holds that no firmware extended"
            found.left_out.append(LeftOut(said.source.file, f"PCR {number} {digest[0]}", why))
        else:
            found.registers.setdefault(number, {}).setdefault(digest, said)


def _strong(found: Values, said: Said, digests: Sequence[Digest], what: str) -> Iterator[Digest]:
    for name, value in digests:
        if name in _HASHES:
            yield name, value
        else:
            why = "no bank has this hash, or it is SHA-1"
            found.left_out.append(LeftOut(said.source.file, f"{what} {name}:{value.hex()}", why))


# --- Files ----------------------------------------------------------------------------------------------------------


def _from_file(found: Values, source: Source, file: File) -> None:
    why = _unfit(file)
    digests = [
        (name, bytes.fromhex(digits))
        for name, _, digits in (one.partition(":") for one in file.hashes)
        if name in _HASHES
    ]
    if why or not digests:
        found.left_out.append(LeftOut(source.file, _described(file), why or "no SHA-2 hash"))
        return
    for digest in digests:
        found.files.setdefault(file.path, {}).setdefault(digest, Said(source))


def _unfit(file: File) -> str:
    """Return why a file is none that a kernel would measure at this path, or an empty text."""
    if file.kind != "file":
        return "no file of a file system"
    parts = file.path.split("/")
    if not file.path.startswith("/"):
        return "no absolute path"
    if (
        len(file.path.encode()) > MAX_FILE_PATH
        or any(part in ("", ".", "..") for part in parts[1:])
        or "\0" in file.path
    ):
        return "a path that no kernel would write so"
    return ""
