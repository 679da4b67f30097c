"""Write the generated parts of docs/ from the code, or check that they are what the code says.

    PYTHONPATH=tests python -m architecture.documents [--check]

A part stands between `<!-- generated: NAME -->` and `<!-- end: NAME -->`; everything else in a document is written by hand and
left alone. `docs/protocol-vectors.json` is generated whole.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from architecture import parts, protocol_parts, worked_vectors

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "architecture.md": {"rooms": parts.rooms, "contracts": parts.contracts},
    "protocol.md": {
        "identity": protocol_parts.identity,
        "ak-template": protocol_parts.ak_template,
        "ek-templates": protocol_parts.ek_templates,
        "binding": protocol_parts.binding,
        "fields": protocol_parts.fields,
        "certificate": protocol_parts.certificate,
        "result": protocol_parts.result,
        "messages": protocol_parts.messages,
        "problems": protocol_parts.problems,
        "limits": protocol_parts.limits,
    },
    "lifecycle.md": {
        "diagram": parts.lifecycle_diagram,
        "states": parts.lifecycle_states,
        "moves": parts.lifecycle_moves,
        "agent": parts.agent_diagram,
    },
    "authoring.md": {
        "untold": parts.untold,
        "life": parts.profile_diagram,
        "standings": parts.profile_standings,
    },
    "threat-model.md": {"attacks": parts.attacks},
    "operations.md": {"configuration": parts.configuration},
}
"""Document → name of the part → what makes it."""


def regenerate(name: str, text: str) -> str:
    """Return the document with every generated part made anew. Raises ValueError where a part has no place in it."""
    for part, make in PARTS[name].items():
        begin, end = f"<!-- generated: {part} -->\n", f"<!-- end: {part} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"docs/{name} needs exactly one place for the part {part!r}")
        head, rest = text.split(begin)
        text = f"{head}{begin}{make().rstrip()}\n{end}{rest.split(end)[1]}"
    return text


def current() -> Iterator[tuple[Path, str, str]]:
    """Yield (path, what it says, what it ought to say) for every document with generated parts."""
    for name in PARTS:
        path = DOCS / name
        if path.exists():
            text = path.read_text(encoding="utf-8")
            yield path, text, regenerate(name, text)
    vectors = DOCS / "protocol-vectors.json"
    yield vectors, vectors.read_text(encoding="utf-8") if vectors.exists() else "", worked_vectors.vectors()


def main(arguments: list[str]) -> int:
    """Regenerate, or with --check only compare; return the exit code."""
    stale = [(path, wanted) for path, is_now, wanted in current() if is_now != wanted]
    for path, wanted in stale:
        if "--check" in arguments:
            print(f"{path.relative_to(ROOT)} is not what the code says: run `make docs`", file=sys.stderr)
        else:
            path.write_text(wanted, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
