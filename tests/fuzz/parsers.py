"""What reads bytes or text of others, found in the source: public functions that are called so, or that take such things.

A reader without a fuzz target is a defect, unless it stands in EXEMPT with the reason.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
ROOMS: Final[Mapping[str, Path]] = {
    **{
        f"attestd.{room}": ROOT / "attestd/attestd" / room
        for room in ("protocol", "tpm", "evidence", "inspection", "reference", "appraisal", "changes", "api")
    },
    "attestd_pki": ROOT / "pki/attestd_pki",
    "attestd_agent": ROOT / "agent/attestd_agent",
}
"""The rooms that see what others wrote. The store reads what it wrote itself, services hand over, the command line reads files."""

_NAME: Final = re.compile(r"(parse|read|load|decode|inspect|unwrap|split|find)(_|$)")
_SUBJECT: Final = frozenset(
    {"data", "body", "text", "content", "pem", "raw", "armored", "area", "nonce", "certificates"}
)
_INPUT: Final = re.compile(r"\b(bytes|str|Path|memoryview|Bytes|Readable|Source|Positioned|Image)\b")
_STREAM: Final = frozenset({"Readable", "Source", "Positioned", "Image", "Bytes"})
"""What only readers of artefacts take."""

_WRITES: Final = "writes, or makes text for people; it reads nothing"
_PART: Final = "a step of a reader that has a target, and never called without it"
_OWN: Final = "reads what the operator or the TPM of this very machine made"

EXEMPT: Final[Mapping[str, str]] = {
    "attestd.appraisal.revocation:is_generation": "matches a pattern",
    "attestd.appraisal.writing:quoted": _WRITES,
    "attestd.changes.operators:Operators.find": "compares",
    "attestd.evidence.challenge:Challenger.activation_secret": "computes a digest",
    "attestd.evidence.labels:printable": _WRITES,
    "attestd.inspection.platformparts:traits_of": _PART,
    "attestd.reference.boot:Log.explain": _WRITES,
    "attestd.reference.boot:Log.image": _WRITES,
    "attestd.reference.boot:load_options": _WRITES,
    "attestd.reference.companions:padded": _WRITES,
    "attestd.reference.extents:indirect_map": _PART,
    "attestd.reference.pe:is_image": _PART,
    "attestd.reference.streams:Source.push_back": _PART,
    "attestd.reference.streams:exactly": _PART,
    "attestd.reference.streams:is_compressed": _PART,
    "attestd.reference.streams:limited": _PART,
    "attestd.reference.style:is_shim": _PART,
    "attestd.reference.style:is_systemd_boot": _PART,
    "attestd.reference.uki:is_unified": _PART,
    "attestd.tpm.guid:guid_text": _WRITES,
    "attestd_pki.development:DevelopmentBackend.from_pem": _OWN,
    "attestd_agent.record:Record.keep_anchor": _WRITES,
    "attestd_agent.tpm_connection:Connection.parse": _OWN,
    "attestd_agent.tpm_esys:LabTpm.read_pcrs": _OWN,
}


def readers(rooms: Mapping[str, Path] = ROOMS) -> Iterator[str]:
    """Yield module:name of every public reader in the rooms."""
    for package, place in rooms.items():
        for file in sorted(place.glob("*.py")):
            module = package if file.stem == "__init__" else f"{package}.{file.stem}"
            yield from (f"{module}:{name}" for name in _in(ast.parse(file.read_text())))


def _in(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _reads(node):
            yield node.name
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not _is_protocol(node):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and _reads(inner):
                    yield f"{node.name}.{inner.name}"


def _is_protocol(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).startswith("Protocol") for base in node.bases)


def _reads(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Say whether a function is called a reader and takes bytes or text, or takes what readers take."""
    taken = [one for one in function.args.args if one.arg not in ("self", "cls")]
    if function.name.startswith("_") or not taken or taken[0].annotation is None:
        return False
    kind = ast.unparse(taken[0].annotation)
    if not _INPUT.search(kind):
        return False
    return _NAME.match(function.name) is not None or taken[0].arg in _SUBJECT or kind in _STREAM
