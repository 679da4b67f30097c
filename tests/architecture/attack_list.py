"""The attacks that the project knows, and the tests that perform them.

A test belongs to an attack by its name (`test_q03_…`) or by the marker `attack`. The reason codes that it pins are read
from its own text: the marker's `reason`, every `Reason.NAME`, every string that is a reason code. What is listed here and has
no test is shown as such in docs/threat-model.md.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from attestd.protocol.reasons import Reason

ATTACKS: Final[dict[str, dict[str, str]]] = {
    "Q: the quote": {
        "Q01": "a structure that no TPM made, signed by an unrestricted key",
        "Q02": "another attestation (certification, time, creation, audit) sent as a quote, or a quote as a certification",
        "Q03": "other PCRs than were asked for: fewer, more, others, none, two banks, one twice, an odd selection size",
        "Q04": "a bank that nobody asked for, or one that the firmware never extended",
        "Q05": "PCR values beside the quote that are missing, extra, doubled, of wrong length, or not quoted",
        "Q06": "a nonce that is replayed, another device's, empty, padded, cut, expired or constant",
        "Q07": "a quote bound to another tunnel key, device key, enrolment or server",
        "Q08": "a signature by another scheme, hash or curve than the key pins; short, long, zero, out of range, trailing bytes",
        "Q09": "a signature over other bytes than those that are appraised",
        "Q10": "one flipped bit in quote, signature, key or register",
        "Q11": "a TPM clock or reset count that goes backwards; a reboot that nobody announced (and no false alarm)",
        "Q12": "the TPM reset without the platform, and the good measurements extended again",
        "Q13": "a TPM whose firmware changed since the enrolment",
        "Q14": "no quote at all, an empty one, a device that says it has no TPM",
        "Q15": "an exception inside any one step of the verification",
        "Q16": "one TPM state in two places: two devices with one identity",
    },
    "K: keys and identity": {
        "K01": "an attestation key that is not restricted, could leave the TPM, or may decrypt",
        "K02": "an attestation key whose attributes changed after its activation",
        "K03": "credential activation for a name that the client computed",
        "K04": "a genuine endorsement certificate with another endorsement key",
        "K05": "no endorsement certificate where the policy demands one: all of none is not a pass",
        "K06": "an endorsement certificate with a wrong profile, validity, extension, issuer, path or hash",
        "K07": "an activation secret that is wrong, another enrolment's, replayed, guessed or late",
        "K08": "a failed activation that changes or removes a device that exists",
        "K09": "a known device id with another key; two enrolments at once; an identity that the client chose",
        "K10": "a device key that another key certified, that could leave the TPM, or for another enrolment",
        "K11": "an inventory entry claimed twice, absent, or withdrawn between challenge and evidence",
        "K12": "a vendor's IDevID or IAK attached without proof",
    },
    "E: boot log and runtime list": {
        "E01": "an event retyped as one that a policy ignores",
        "E02": "event data that does not hash to its digest",
        "E03": "separators missing or doubled; measurements where none can be",
        "E04": "a log that is shorter or longer than the quote, of another boot, or absent",
        "E05": "a locality that never was, extended events that extend nothing, odd digest lists",
        "E06": "sizes made to exhaust: huge events, counts, nested paths, underflows, long logs",
        "E07": "a register index above 23",
        "E08": "a runtime list that is altered, cut, re-ordered, hidden behind an exclusion or offset past the truth",
        "E09": "a self-declared version that chooses easier reference values",
        "E10": "an image that was good once and has been retired, or staged and withdrawn",
        "E11": "paths that are no text, or hold line breaks, terminal codes or markup",
    },
    "P: reference values and policy": {
        "P01": "an empty, missing or unknown policy",
        "P02": "policy or inventory changed by SQL, by too few approvers, by an approver alone, or by a replayed approval",
        "P03": "policy changed or withdrawn while evidence is in flight",
        "P04": "a stale policy after a change on another replica",
        "P05": "fail, fall silent, come back: trust without an appraisal",
        "P06": "patterns that never end",
    },
    "C: credentials": {
        "C01": "a certificate for another key, another name, another usage or a longer validity",
        "C02": "a credential without a grant, by a used grant, by another device's, or after revocation",
        "C03": "renewal by a device that is revoked, expired, untrusted or silent",
        "C04": "two devices with one tunnel address or name",
        "C05": "a tunnel that still passes traffic after a revocation",
        "C06": "a private key or token shown to anybody else, or written to a log, an error or a dump",
        "C07": "a shared secret, default password or built-in key",
    },
    "T: tokens, interfaces, network": {
        "T01": "a route with no token, a foreign or expired one, one of a lesser scope, or a forged one",
        "T02": "an attestation result of another device, a stale one, or one for another request",
        "T03": "slow requests, idle connections, oversized or nested bodies, compression, doubled keys, odd numbers",
        "T04": "anonymous requests that cost the verifier much computation or a database write",
        "T05": "a stranger who locks a device out, or a shared address that cannot boot",
        "T06": "a server that is not the verifier: another name, public CA, no TLS, a redirect",
        "T07": "split responses, requests made on a stranger's behalf, paths in names",
        "T08": "markup from a device's fields in a browser; forged requests; open redirects",
        "T09": "a dump of database, disk or process arguments that holds a usable token or key",
    },
    "L: log and quorum": {
        "L01": "an entry of the log changed, dropped, re-ordered; an old backup restored",
        "L02": "a signer asked to sign without evidence, or something else than the evidence says",
        "L03": "signers that are too few, lying, silent, or restored from a snapshot",
        "L04": "one server's whole disk used to mint, impersonate or decrypt",
    },
}
"""Section → identifier → what the attacker tries."""

ABSENT: Final = {
    "C05": "*not claimed: the gateway's side of the tunnel is not part of this version*",
    "L04": "*not claimed: one development issuer, no quorum*",
}
"""Why an attack has no test, where that is by design of this version."""

_NAME = re.compile(r"test_([a-z]\d\d)_")
_CODES = frozenset(reason.value for reason in Reason)
_MEMBERS = {reason.name: reason.value for reason in Reason}


@dataclass(frozen=True, slots=True)
class AttackTest:
    """One test: its name, where it stands, and the reason codes that its text pins."""

    name: str
    path: Path
    line: int
    reasons: tuple[str, ...]
    skipped: bool


def find_tests(directory: Path) -> dict[str, list[AttackTest]]:
    """Return identifier → its tests, in the order of files and lines."""
    found: dict[str, list[AttackTest]] = {}
    for path in sorted(directory.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for identifier in _identifiers(node):
                    test = AttackTest(node.name, path, node.lineno, _reasons(node), _is_skipped(node))
                    found.setdefault(identifier, []).append(test)
    return found


def _identifiers(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    match = _NAME.match(node.name)
    named = [match.group(1).upper()] if match else []
    marked = [
        argument.value
        for call in node.decorator_list
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "attack"
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]
    return list(dict.fromkeys([*named, *marked]))


def _reasons(node: ast.AST) -> tuple[str, ...]:
    codes: list[str] = []
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.value.id == "Reason":
            codes.append(_MEMBERS.get(inner.attr, ""))
        elif isinstance(inner, ast.Constant) and inner.value in _CODES:
            codes.append(str(inner.value))
    return tuple(dict.fromkeys(code for code in codes if code))


def _is_skipped(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether the test is switched off for good (skip or xfail without a condition)."""
    return any(
        isinstance(inner, ast.Attribute) and inner.attr in ("skip", "xfail")
        for decorator in node.decorator_list
        for inner in ast.walk(decorator)
    )
