"""An allow-list becomes the runtime part of a profile, in YAML that a person reads.

Proves that what is written reads back as the list it was given, and that a profile to which it was added differs from before in
its version and its runtime part alone: both are read again. Comments say which place each block came from.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from attestd.appraisal.policy import Check, Profile, RuntimePolicy, Violations
from attestd.appraisal.profile import ProfileError, parse_profile_yaml
from attestd.appraisal.writing import allow_line, quoted
from attestd.protocol.limits import MAX_PROFILE_DOCUMENT
from attestd.reference.files import AllowedPath, AllowList, ArtefactRefused, PlaceFiles, combine

_VERSION: Final = re.compile(r"^([\"']?version[\"']?\s*:\s*)[\"']?\d+[\"']?", re.MULTILINE)
_RUNTIME: Final = re.compile(r"^[\"']?runtime[\"']?\s*:")


def runtime_lines(
    listed: AllowList, *, check: Check = Check.REQUIRED, violations: str = "refuse", exclude: Sequence[str] = ()
) -> list[str]:
    """Return the lines of a profile's key `runtime`, the key's own first. An empty list has none: it would accept nothing.

    *Raises* `ArtefactRefused` ("allow-list-size") where they alone are more than a profile can have.
    """
    if not listed.paths:
        return []
    lines = ["runtime:", f"  check: {check.value}", f"  violations: {violations}"]
    if exclude:
        lines.append(f"  exclude: [{', '.join(map(quoted, exclude))}]")
    lines += ["  allow:", *_blocks(listed), ""]
    size = sum(len(line.encode()) + 1 for line in lines)
    if size > MAX_PROFILE_DOCUMENT:
        raise _too_much(len(listed.paths), size)
    return lines


def _too_much(paths: int, size: int) -> ArtefactRefused:
    return ArtefactRefused(
        "allow-list-size",
        f"{paths} paths need {size} bytes, and a profile has at most {MAX_PROFILE_DOCUMENT}: take code alone (without --all), "
        "choose with --only, leave out with --exclude (one that a device measures all the same is refused there)",
    )


def _blocks(listed: AllowList) -> Iterator[str]:
    """Yield the paths of each place under its name, and those that several places have under all their names."""
    blocks: dict[tuple[int, ...], list[AllowedPath]] = {}
    for path in listed.paths:
        blocks.setdefault(path.places, []).append(path)
    for places in sorted(blocks):
        yield f"    # {' and '.join(_called(listed.places[number]) for number in places)}: {len(blocks[places])} paths"
        for item in blocks[places]:
            digests = (f"{name}:{value.hex()}" for name, value in item.digests)
            yield allow_line(item.path, digests, remark=", ".join(_remarks(listed, item)))


def _remarks(listed: AllowList, item: AllowedPath) -> Iterator[str]:
    if len({name for name, _ in item.digests}) < len(item.digests):
        yield "several contents"
    if any(item.path.encode() in listed.places[number].conffiles for number in item.places):
        yield "configuration: a device may have another"


def _called(place: PlaceFiles) -> str:
    return f"{place.kind} {quoted(place.name)}"


def document(listed: AllowList, *, name: str, version: int) -> str:
    """Return a profile that has a runtime part and nothing else; as it stands it requires nothing of the boot, and accepts nothing.

    *Raises* `ArtefactRefused` ("allow-list-empty", "allow-list-size").
    """
    if not listed.paths:
        raise _empty()
    lines = [
        "# Files alone: it says nothing of the boot, so nothing passes it yet.",
        f"profile: {quoted(name)}",
        f"version: {version}",
        *runtime_lines(listed),
    ]
    text = "\n".join(lines)
    _read_back(text)
    return text


def _empty() -> ArtefactRefused:
    return ArtefactRefused("allow-list-empty", "no file of these places is wanted: --all takes every regular file")


def onto(text: str, listed: AllowList, *, replace_all: bool = False) -> str:
    """Return the profile in `text`, comments included, as its next version, with the list's paths added to its own.

    What a path might have before it may have still, unless the list is to `replace_all` of it. *Raises* `ProfileError` for a text
    that is no profile; `ArtefactRefused` ("allow-list-empty", "allow-list-size", and "profile-layout" for a text whose keys are not
    where they can be replaced).
    """
    if not listed.paths:
        raise _empty()
    old = parse_profile_yaml(text)
    wanted = listed if replace_all else _runtime(old, listed)
    new = _spliced(text, old, wanted).rstrip("\n") + "\n"
    found = _read_back(new)
    if not _is_next(old, found, {path.path: path.digests for path in wanted.paths}):
        raise ArtefactRefused("profile-layout", "write `version:` and `runtime:` of the profile on lines of their own")
    return new


def _runtime(old: Profile, listed: AllowList) -> AllowList:
    """Return the list with what the profile already allows, as its first place."""
    before = PlaceFiles(f"{old.name} v{old.version}", "profile")
    before.digests = {path.encode(): digests for path, digests in old.runtime.allow}
    return combine((before, *listed.places)) if before.digests else listed


def _spliced(text: str, old: Profile, listed: AllowList) -> str:
    policy = old.runtime
    lines = runtime_lines(
        listed,
        check=policy.check if policy.check.judges else Check.REQUIRED,
        violations=policy.violations.value,
        exclude=policy.exclude,
    )
    numbered = _VERSION.sub(lambda match: f"{match[1]}{old.version + 1}", text, count=1)
    kept: list[str] = []
    inside = False
    for line in numbered.split("\n"):
        if _RUNTIME.match(line):
            inside = True
            kept += lines
        elif not inside or line.startswith("#"):
            kept.append(line)
        elif line.strip() and line[0] not in " \t":
            inside = False
            kept.append(line)
    return "\n".join(kept if any(map(_RUNTIME.match, kept)) else [*kept, "", *lines])


def _read_back(text: str) -> Profile:
    try:
        return parse_profile_yaml(text)
    except ProfileError as error:
        if len(text.encode()) > MAX_PROFILE_DOCUMENT:
            raise _too_much(text.count("\n"), len(text.encode())) from None
        raise ArtefactRefused("profile-layout", f"what was written is no profile: {error}") from None


def _is_next(old: Profile, new: Profile, allow: dict[str, tuple[tuple[str, bytes], ...]]) -> bool:
    """Return whether a profile is the old one's next version, and differs in nothing but what its runtime part allows."""
    policy = old.runtime
    check = policy.check if policy.check.judges else Check.REQUIRED
    pairs = tuple(sorted((path, tuple(sorted(digests))) for path, digests in allow.items()))
    expected = RuntimePolicy(check, pairs, policy.exclude, Violations(policy.violations))
    same = replace(old, version=old.version + 1, runtime=expected, document=new.document)
    return new == same
