"""Profile documents become profiles, and every surprise in one is an error that names its place.

Proves that two documents with the same meaning have the same canonical bytes. Reads YAML from people and canonical JSON from
the store by one and the same path, so that what was approved is what is enforced.
"""

from collections.abc import Iterable
from typing import Final, TypeVar

from attestd.appraisal.document import Node, ProfileError, read_json, read_yaml, write_json
from attestd.appraisal.policy import (
    ANY_TPM,
    CLAIMS,
    NEVER_IGNORED,
    NO_RUNTIME,
    REVOCATION_CLAIMS,
    SUBJECTS,
    Check,
    ClaimPolicy,
    Profile,
    RegisterPolicy,
    Rule,
    RuntimePolicy,
    Tier,
    TpmPolicy,
    Violations,
    canonical,
    ordered,
)
from attestd.appraisal.revocation import is_generation
from attestd.protocol import limits

_DIGEST_SIZES: Final = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64, "sm3_256": 32}
_TIERS: Final = {"warning": Tier.WARNING, "contraindicated": Tier.CONTRAINDICATED}
_NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._")
_RUNTIME_PCR: Final = 10
DEFAULT_INTERVAL: Final = 60
DEFAULT_DEADLINE: Final = 300

T = TypeVar("T")

__all__ = ["Profile", "ProfileError", "Tier", "canonical", "load_profile", "parse_profile_yaml"]


def parse_profile_yaml(text: str) -> Profile:
    """Return the profile of a YAML document.

    *Raises* `ProfileError` naming the place: an unknown key is refused, since a misspelt check would check nothing.
    """
    return _profile(read_yaml(text))


def load_profile(data: bytes) -> Profile:
    """Return the profile of canonical bytes, as `canonical` gave them.

    *Raises* `ProfileError`, also when the bytes mean a profile but are not that profile's canonical document.
    """
    profile = _profile(read_json(data))
    if profile.document != data:
        raise ProfileError("", "not in canonical form")
    return profile


def _profile(node: Node) -> Profile:
    root = _mapping(node, "", required=("profile", "version"), optional=_ROOT_KEYS)
    warnings = _warnings(root.get("tiers", {}))
    claims = _mapping_of(root.get("claims", {}), "claims")
    interval = _integer(root.get("interval", DEFAULT_INTERVAL), "interval", limits.MIN_INTERVAL_SECONDS)
    deadline = _integer(root.get("deadline", max(DEFAULT_DEADLINE, 3 * interval)), "deadline", interval)
    policies = tuple(_claim(name, claims[name]) for name in sorted(claims))
    registers = _registers(root.get("pcrs", {}))
    runtime = _runtime(root["runtime"]) if "runtime" in root else NO_RUNTIME
    tpm = _tpm(root["tpm"]) if "tpm" in root else ANY_TPM
    fields: dict[str, str | int] = {
        "name": _name(root["profile"]),
        "version": _integer(root["version"], "version", 1, maximum=2**31 - 1),
        "description": _text(root.get("description", ""), "description", limits.MAX_TEXT),
        "interval": interval,
        "deadline": deadline,
    }
    document = write_json(_document(fields, policies, registers, runtime, tpm, warnings))
    if len(document) > limits.MAX_PROFILE_DOCUMENT:
        raise ProfileError("", f"the document exceeds {limits.MAX_PROFILE_DOCUMENT} bytes")
    return Profile(
        **fields,  # type: ignore[arg-type]
        claims=policies,
        registers=registers,
        runtime=runtime,
        tpm=tpm,
        warnings=warnings,
        document=document,
    )


_ROOT_KEYS: Final = ("description", "interval", "deadline", "claims", "pcrs", "runtime", "tpm", "tiers")


def _name(node: Node) -> str:
    name = _text(node, "profile", 64)
    if not name or not set(name) <= _NAME_CHARACTERS:
        raise ProfileError("profile", "a name has lower-case letters, digits and -._")
    return name


def _warnings(node: Node) -> frozenset[str]:
    found = set()
    for name, value in _mapping_of(node, "tiers").items():
        if name not in CLAIMS and name not in SUBJECTS:
            raise ProfileError(f"tiers.{name}", "there is no such claim")
        if _word(value, f"tiers.{name}", _TIERS) is Tier.WARNING:
            found.add(name)
    return frozenset(found)


def _claim(name: str, node: Node) -> ClaimPolicy:
    path = f"claims.{name}"
    if name not in CLAIMS:
        raise ProfileError(path, "there is no such claim")
    found = _mapping(node, path, required=("check",), optional=("accept", "complete"))
    check = _word(found["check"], f"{path}.check", {item.value: item for item in Check})
    if check is Check.IGNORED and name in NEVER_IGNORED:
        raise ProfileError(
            f"{path}.check", "this claim cannot be ignored: list what is accepted, or do not quote its register"
        )
    judged = check.judges
    if judged and "accept" not in found:
        raise ProfileError(path, f"{check} needs a list of what to accept")
    if not judged and ("accept" in found or "complete" in found):
        raise ProfileError(path, f"{check} accepts nothing, so it must not list anything")
    rules = _list(found.get("accept", []), f"{path}.accept")
    if judged and not rules:
        raise ProfileError(f"{path}.accept", "an empty list accepts nothing: write absent instead")
    accept = ordered(_rule(rule, f"{path}.accept[{i}]") for i, rule in enumerate(rules))
    complete = found.get("complete", False)
    if not isinstance(complete, bool):
        raise ProfileError(f"{path}.complete", "true or false is expected")
    return ClaimPolicy(name, check, accept, complete)


def _rule(node: Node, path: str) -> Rule:
    found = _mapping(node, path, required=(), optional=("digest", "text", "glob", "revokes", "note"))
    note = _text(found.get("note", ""), f"{path}.note", limits.MAX_TEXT)
    kinds = [kind for kind in ("digest", "text", "glob", "revokes") if kind in found]
    if len(kinds) != 1:
        raise ProfileError(path, "exactly one of digest, text, glob and revokes is expected")
    if kinds == ["revokes"]:
        return Rule(revokes=_revocations(found["revokes"], f"{path}.revokes"), note=note)
    if kinds == ["digest"]:
        return Rule(digest=_digest(found["digest"], f"{path}.digest"), note=note)
    if kinds == ["text"]:
        return Rule(text=_text(found["text"], f"{path}.text", limits.MAX_PROFILE_DOCUMENT), note=note)
    return Rule(glob=_pattern(found["glob"], f"{path}.glob"), note=note)


def _revocations(node: Node, path: str) -> tuple[str, ...]:
    """Return what has to be revoked at least: digests, or generations of components; not both, since no list has both."""
    claim = path.split(".")[1]
    if claim not in REVOCATION_CLAIMS:
        raise ProfileError(path, f"only {' and '.join(sorted(REVOCATION_CLAIMS))} revoke")
    found = set()
    for index, item in enumerate(_list(node, path)):
        where = f"{path}[{index}]"
        if claim == "secure-boot-dbx":
            found.add(_digest_text(_digest(item, where)))
            continue
        if not is_generation(text := _text(item, where, 100)):
            raise ProfileError(where, "a component and its least generation are expected, such as shim,2")
        found.add(text)
    if not found:
        raise ProfileError(path, "an empty list revokes nothing")
    return tuple(sorted(found))


def _registers(node: Node) -> tuple[RegisterPolicy, ...]:
    found = {}
    for key, value in _mapping_of(node, "pcrs").items():
        path = f"pcrs.{key}"
        if not (key.isascii() and key.isdigit() and str(int(key)) == key and int(key) < limits.PCR_COUNT):
            raise ProfileError(path, f"a register is a number below {limits.PCR_COUNT}")
        if int(key) == _RUNTIME_PCR:
            raise ProfileError(path, "the runtime list decides about PCR 10: its value is never the same twice")
        found[int(key)] = RegisterPolicy(int(key), _register_values(value, path))
    return tuple(found[index] for index in sorted(found))


def _register_values(node: Node, path: str) -> tuple[tuple[str, bytes], ...]:
    if node == "ignored":
        return ()
    values = _list(node, path)
    if not values:
        raise ProfileError(path, "list values, or write ignored")
    return tuple(sorted({_digest(value, f"{path}[{i}]") for i, value in enumerate(values)}))


def _runtime(node: Node) -> RuntimePolicy:
    found = _mapping(node, "runtime", required=("check",), optional=("allow", "exclude", "violations"))
    check = _word(found["check"], "runtime.check", {item.value: item for item in Check})
    violations = _word(
        found.get("violations", "refuse"), "runtime.violations", {item.value: item for item in Violations}
    )
    allow = []
    for path, digests in sorted(_mapping_of(found.get("allow", {}), "runtime.allow").items()):
        where = f"runtime.allow.{path}"
        accepted = {_digest(item, f"{where}[{i}]") for i, item in enumerate(_list(digests, where))}
        if not accepted:
            raise ProfileError(where, "list the digests this path may have")
        allow.append((path, tuple(sorted(accepted))))
    patterns = _list(found.get("exclude", []), "runtime.exclude")
    exclude = tuple(sorted({_pattern(item, f"runtime.exclude[{i}]") for i, item in enumerate(patterns)}))
    if check is Check.REQUIRED and not allow:
        raise ProfileError("runtime.allow", "a required list needs paths that are allowed")
    return RuntimePolicy(check, tuple(allow), exclude, violations)


def _tpm(node: Node) -> TpmPolicy:
    found = _mapping(node, "tpm", required=(), optional=("manufacturers", "firmware-versions"))
    names = _list(found.get("manufacturers", []), "tpm.manufacturers")
    versions = _list(found.get("firmware-versions", []), "tpm.firmware-versions")
    manufacturers = {_text(item, f"tpm.manufacturers[{i}]", 64) for i, item in enumerate(names)}
    firmware = {_hexadecimal(item, f"tpm.firmware-versions[{i}]") for i, item in enumerate(versions)}
    return TpmPolicy(tuple(sorted(manufacturers)), tuple(sorted(firmware)))


def _hexadecimal(node: Node, path: str) -> int:
    text = _text(node, path, 18)
    digits = text.removeprefix("0x").lower()
    if digits == text or not digits or not set(digits) <= frozenset("0123456789abcdef"):
        raise ProfileError(path, "a version is text like 0x2019102300163636")
    return int(digits, 16)


def _digest(node: Node, path: str) -> tuple[str, bytes]:
    name, _, digits = _text(node, path, 160).partition(":")
    size = _DIGEST_SIZES.get(name)
    lower = digits.lower()
    if size is None or len(digits) != 2 * size or not set(lower) <= frozenset("0123456789abcdef"):
        raise ProfileError(path, "a digest is text like sha256:00…, complete")
    return name, bytes.fromhex(lower)


def _pattern(node: Node, path: str) -> str:
    pattern = _text(node, path, limits.MAX_PATTERN)
    if not pattern.replace("*", ""):
        raise ProfileError(path, "a pattern of stars alone accepts everything: write ignored instead")
    return pattern


def _mapping(node: Node, path: str, *, required: Iterable[str], optional: Iterable[str]) -> dict[str, Node]:
    found = _mapping_of(node, path)
    prefix = f"{path}." if path else ""
    known = {*required, *optional}
    for key in found:
        if key not in known:
            raise ProfileError(f"{prefix}{key}", f"unknown key; known are {', '.join(sorted(known))}")
    for key in required:
        if key not in found:
            raise ProfileError(f"{prefix}{key}", "this key is required")
    return found


def _mapping_of(node: Node, path: str) -> dict[str, Node]:
    if not isinstance(node, dict):
        raise ProfileError(path, "keys with values are expected")
    return node


def _list(node: Node, path: str) -> list[Node]:
    if not isinstance(node, list):
        raise ProfileError(path, "a list is expected")
    return node


def _text(node: Node, path: str, maximum: int) -> str:
    if not isinstance(node, str):
        raise ProfileError(path, "text is expected (put numbers, true and false in quotes)")
    if len(node) > maximum:
        raise ProfileError(path, f"longer than {maximum} characters")
    if any("\ud800" <= character <= "\udfff" for character in node):
        raise ProfileError(path, "text must be valid Unicode")
    return node


def _integer(node: Node, path: str, minimum: int, *, maximum: int = limits.MAX_INTERVAL_SECONDS) -> int:
    if not isinstance(node, int) or isinstance(node, bool) or not minimum <= node <= maximum:
        raise ProfileError(path, f"a number from {minimum} to {maximum} is expected")
    return node


def _word(node: Node, path: str, words: dict[str, T]) -> T:
    if not isinstance(node, str) or node not in words:
        raise ProfileError(path, f"one of {', '.join(sorted(words))} is expected")
    return words[node]


def _document(
    fields: dict[str, str | int],
    claims: tuple[ClaimPolicy, ...],
    registers: tuple[RegisterPolicy, ...],
    runtime: RuntimePolicy,
    tpm: TpmPolicy,
    warnings: frozenset[str],
) -> Node:
    """Return the document with everything said, defaults too, and nothing that says nothing."""
    document: dict[str, Node] = {"profile" if key == "name" else key: value for key, value in fields.items()}
    document["claims"] = {policy.claim: _claim_node(policy) for policy in claims}
    document["pcrs"] = {str(r.index): [_digest_text(value) for value in r.values] or "ignored" for r in registers}
    if runtime != NO_RUNTIME:
        document["runtime"] = {
            "check": runtime.check.value,
            "allow": {path: [_digest_text(digest) for digest in digests] for path, digests in runtime.allow},
            "exclude": list(runtime.exclude),
            "violations": runtime.violations.value,
        }
    if tpm != ANY_TPM:
        document["tpm"] = {
            "manufacturers": list(tpm.manufacturers),
            "firmware-versions": [f"{version:#018x}" for version in tpm.firmware_versions],
        }
    document["tiers"] = dict.fromkeys(warnings, "warning")
    return document


def _claim_node(policy: ClaimPolicy) -> Node:
    node: dict[str, Node] = {"check": policy.check.value}
    if policy.accept:
        node["accept"] = [_rule_node(rule) for rule in policy.accept]
        node["complete"] = policy.complete
    return node


def _rule_node(rule: Rule) -> Node:
    node: dict[str, Node] = {}
    if rule.digest is not None:
        node["digest"] = _digest_text(rule.digest)
    if rule.text is not None:
        node["text"] = rule.text
    if rule.glob is not None:
        node["glob"] = rule.glob
    if rule.revokes:
        node["revokes"] = list(rule.revokes)
    if rule.note:
        node["note"] = rule.note
    return node


def _digest_text(digest: tuple[str, bytes]) -> str:
    return f"{digest[0]}:{digest[1].hex()}"
