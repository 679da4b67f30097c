"""What the code says of itself, as Markdown: one function for each generated part of docs/ but those of the protocol."""

import importlib
import json
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from architecture import attack_list
from architecture.markdown import fenced, table
from attestd import config
from attestd.changes import profiles
from attestd.lifecycle.table import MEANINGS, MOVES
from attestd.services import kept
from attestd_agent import machine

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    "attestd.protocol",
    "attestd.tpm",
    "attestd.evidence",
    "attestd.appraisal",
    "attestd.inspection",
    "attestd.reference",
    "attestd.lifecycle",
    "attestd.changes",
    "attestd.issuance",
    "attestd.store",
    "attestd.services",
    "attestd.api",
    "attestd.cli",
    "attestd_pki",
    "attestd_agent",
    "attestd_agent.lab",
)


# --- docs/architecture.md ----------------------------------------------------------------------------------------------


def rooms() -> str:
    """Return the rooms and what each says of itself: the first paragraph of its docstring."""
    rows: list[tuple[str, ...]] = []
    for name in ROOMS:
        text = (importlib.import_module(name).__doc__ or "").strip().split("\n\n")[0]
        rows.append((f"`{name}`", " ".join(text.split())))
    return table(("room", "what it says of itself"), rows)


def contracts() -> str:
    """Return the contracts that the build enforces, as they stand in pyproject.toml."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = document["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in listed if contract["type"] == "layers")
    order = "\n".join(layer.replace("(", "").replace(")", "").replace(":", ",") for layer in layers)
    rest = "".join(f"- {contract['name']} (`{contract['id']}`)\n" for contract in listed)
    return fenced("text", order) + "\n" + rest


# --- docs/lifecycle.md -------------------------------------------------------------------------------------------------


def lifecycle_diagram() -> str:
    """Return the table of moves as a Mermaid diagram: one arrow for each pair of states."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), following in MOVES.items():
        arrows.setdefault((state.value if state else "[*]", following.value), []).append(event.value)
    lines = [f"    {a} --> {b}: {', '.join(events)}" for (a, b), events in arrows.items() if a != b]
    return fenced("mermaid", "stateDiagram-v2\n" + "\n".join(lines))


def lifecycle_states() -> str:
    """Return what each state means to a relying party and for the device's credentials."""
    rows = [
        (f"`{state.value}`", meaning.text, "yes" if meaning.trusted else "no", "kept" if meaning.keeps else "withdrawn")
        for state, meaning in MEANINGS.items()
    ]
    return table(("state", "the device", "trusted", "credentials"), rows)


def lifecycle_moves() -> str:
    """Return the whole table: a row for each state, a column for each event, empty where there is no move."""
    events = list(dict.fromkeys(event for _, event in MOVES))
    states = [None, *MEANINGS]
    rows: list[tuple[str, ...]] = []
    for state in states:
        cells = (MOVES.get((state, event)) for event in events)
        rows.append((f"`{state.value}`" if state else "*(new)*", *(cell.value if cell else "" for cell in cells)))
    return table(("", *(event.value for event in events)), rows)


def agent_diagram() -> str:
    """Return the agent's own table of moves as a Mermaid diagram."""
    return fenced("mermaid", machine.diagram())


# --- docs/authoring.md -------------------------------------------------------------------------------------------------


def profile_diagram() -> str:
    """Return the moves of a profile's versions as a Mermaid diagram."""
    arrows = [f"    {before.value} --> {then.value}: {kind}" for (before, kind), then in profiles.MOVES.items()]
    return fenced("mermaid", "\n".join(("stateDiagram-v2", "    [*] --> draft", *arrows)))


def profile_standings() -> str:
    """Return where a version of a profile can stand, and what each kind of signed change makes of it."""
    kinds = list(dict.fromkeys(kind for _, kind in profiles.MOVES))
    rows: list[tuple[str, ...]] = []
    for standing, meaning in profiles.MEANINGS.items():
        cells = (profiles.MOVES.get((standing, kind)) for kind in kinds)
        rows.append((f"`{standing.value}`", meaning, *(cell.value if cell else "" for cell in cells)))
    return table(("version", "what it is", *(f"`{kind}`" for kind in kinds)), rows)


def untold() -> str:
    """Return why nothing can be told of a device when its kept proof is looked at again."""
    return table(("cause", "means"), [(f"`{cause}`", text) for cause, text in kept.UNTOLD.items()])


# --- docs/threat-model.md ----------------------------------------------------------------------------------------------


def attacks() -> str:
    """Return the attack list, with the tests that perform each and the reason codes that they pin."""
    found = attack_list.find_tests(ROOT / "tests")
    sections = []
    for title, attacks_of in attack_list.ATTACKS.items():
        rows: list[tuple[str, ...]] = []
        for identifier, text in attacks_of.items():
            tests = found.get(identifier, [])
            reasons = dict.fromkeys(reason for test in tests for reason in test.reasons)
            shown = "<br>".join(
                f"`{test.name}`{' (**known gap**)' * test.skipped}" for test in tests
            ) or attack_list.ABSENT.get(identifier, "*no test yet*")
            rows.append((identifier, text, ", ".join(f"`{reason}`" for reason in reasons), shown))
        sections.append(f"### {title}\n\n" + table(("id", "attack", "refused as", "tests"), rows))
    return "\n".join(sections)


# --- docs/operations.md ------------------------------------------------------------------------------------------------


def configuration() -> str:
    """Return every setting of attestd.toml with its default."""
    sections = []
    for name, field in config.Configuration.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            text = " ".join((section.__doc__ or "").split())
            rows = [(f"`{key}`", _default(inner), _allowed(inner)) for key, inner in section.model_fields.items()]
            sections.append(f"`[{name}]`: {text}\n\n" + table(("setting", "default", "allowed"), rows))
    return "\n".join(sections)


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return "*(required)*"
    value = field.default
    if value is None:
        return "*(none)*"
    if isinstance(value, tuple):
        return "`[" + ", ".join(_toml(item) for item in value) + "]`"
    return f"`{_toml(value)}`"


def _allowed(field: Any) -> str:
    """Return the bounds of a number, or the words of a choice; empty where the type says it all."""
    bounds = {
        name: value
        for item in field.metadata
        for name in ("ge", "le")
        if (value := getattr(item, name, None)) is not None
    }
    pattern = next((item.pattern for item in field.metadata if getattr(item, "pattern", None)), None)
    if pattern:
        return ", ".join(f"`{_toml(word)}`" for word in pattern.strip("^$()").split("|"))
    if not bounds:
        return ""
    return f"{bounds['ge']} to {bounds['le']}" if len(bounds) == 2 else f"{bounds['ge']} or more"


def _toml(value: object) -> str:
    if isinstance(value, bool | int):
        return str(value).lower()
    return json.dumps(str(value), ensure_ascii=False)
