"""What the code says of itself, as Markdown: one function for each generated part of docs/."""

import ast
import importlib
import json
import tomllib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cbor2
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from architecture import attack_list
from architecture.notation import cbor_diagnostic, json_abridged
from architecture.worked_exchange import SERVER, worked_exchange
from attestd import config
from attestd.lifecycle.table import MEANINGS, MOVES
from attestd.protocol import binding as binding_module
from attestd.protocol import codec
from attestd.protocol import limits as limits_module
from attestd.protocol.reasons import PROBLEM_TYPE_PREFIX, PROBLEMS
from attestd.tpm.public import spki
from attestd_agent import machine

ROOT = Path(__file__).resolve().parents[2]
_OF_THE_WIRE = (
    *("MAX_BODY", "MAX_ANONYMOUS", "MAX_JSON", "MAX_NESTING", "MAX_TEXT", "MAX_EK", "MAX_CERTIFICATE", "MAX_LABELS"),
    *("MAX_CHALLENGERS", "MAX_VPN", "MAX_TPM", "MAX_NONCE", "MIN_NONCE", "MAX_EVENT_LOG", "MAX_EVENTS", "MAX_HEADER"),
    *("MAX_IMA_LIST", "MAX_IMA_ENTRIES", "ENROLMENT_NONCE", "MAX_IDLE", "MIN_INTERVAL", "MAX_INTERVAL"),
)
"""Beginnings of the names of those bounds that a client meets."""
ROOMS = (
    "attestd.protocol",
    "attestd.tpm",
    "attestd.evidence",
    "attestd.appraisal",
    "attestd.inspection",
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


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```\n"


# --- docs/architecture.md ----------------------------------------------------------------------------------------------


def rooms() -> str:
    """Return the rooms and what each says of itself: the first paragraph of its docstring."""
    rows: list[tuple[str, ...]] = []
    for name in ROOMS:
        text = (importlib.import_module(name).__doc__ or "").strip().split("\n\n")[0]
        rows.append((f"`{name}`", " ".join(text.split())))
    return _table(("room", "what it says of itself"), rows)


def contracts() -> str:
    """Return the contracts that the build enforces, as they stand in pyproject.toml."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = document["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in listed if contract["type"] == "layers")
    order = "\n".join(layer.replace("(", "").replace(")", "").replace(":", ",") for layer in layers)
    rest = "".join(f"- {contract['name']} (`{contract['id']}`)\n" for contract in listed)
    return _fenced("text", order) + "\n" + rest


# --- docs/protocol.md --------------------------------------------------------------------------------------------------


def identity() -> str:
    """Return the worked derivation of a device's id from its endorsement key."""
    exchange = worked_exchange()
    lines = (
        ("TPM2B_PUBLIC of the EK", (len(exchange.ek.area).to_bytes(2, "big") + exchange.ek.area).hex()),
        ("SubjectPublicKeyInfo (DER)", spki(exchange.ek).hex()),
        ("device id", exchange.device_id),
        ("TPM name of the AK", exchange.ak.name.hex()),
        ("TPM name of the device key", exchange.device_key.name.hex()),
    )
    return _fenced("text", "\n\n".join(f"{label}\n{_wrapped(value)}" for label, value in lines))


def binding() -> str:
    """Return the worked binding of the example's enrolment quote: the array, its encoding, its digest."""
    exchange = worked_exchange()
    array = [
        binding_module.BINDING_LABEL,
        binding_module.Purpose.ENROL_QUOTE.value,
        SERVER,
        [challenge.nonce for challenge in exchange.challenge.challenges],
        exchange.device_id,
        exchange.device_key.name,
        [[kind, value] for kind, value in exchange.request.vpn_keys],
    ]
    encoded = cbor2.dumps(array, canonical=True)
    text = (
        f"{cbor_diagnostic(array, most=64)}\n\n"
        f"deterministic CBOR ({len(encoded)} bytes)\n{_wrapped(encoded.hex())}\n\n"
        f"SHA-256 = extraData of the quote\n{exchange.quote_binding.hex()}\n\n"
        f"the same with {binding_module.Purpose.ENROL_CERTIFY.value!r} = extraData of the certification\n"
        f"{exchange.certify_binding.hex()}"
    )
    return _fenced("text", text)


def messages() -> str:
    """Return an example of every message, in CBOR diagnostic notation and in JSON."""
    parts = []
    for name, message in worked_exchange().by_name():
        encoded = codec.encode(message, codec.CBOR)
        shown = cbor_diagnostic(cbor2.loads(encoded))
        as_json = json_abridged(json.loads(codec.encode(message, codec.JSON)))
        parts.append(
            f"#### {name}\n\n{len(encoded)} bytes of CBOR:\n\n{_fenced('text', shown)}\n"
            f"<details><summary>The same in JSON</summary>\n\n{_fenced('json', as_json)}\n</details>\n"
        )
    return "\n".join(parts)


def problems() -> str:
    """Return the reason codes with status, title and advice."""
    head = f"`type` is `{PROBLEM_TYPE_PREFIX}` and the code.\n\n"
    rows = [(f"`{reason.value}`", str(known.status), known.title, known.advice) for reason, known in PROBLEMS.items()]
    return head + _table(("code", "status", "title", "what the caller does"), rows)


def limits() -> str:
    """Return the bounds that a client meets, with the reason of each, from the text of limits.py."""
    documented = _documented(limits_module.__file__ or "")
    rows = [
        (f"`{name}`", f"{getattr(limits_module, name):,}".replace(",", " "), documented.get(name, ""))
        for name in vars(limits_module)
        if name.startswith(_OF_THE_WIRE)
    ]
    return _table(("bound", "value", "why"), rows)


def vectors() -> str:
    """Return docs/protocol-vectors.json: the worked exchange, every byte of it."""
    exchange = worked_exchange()
    document: dict[str, Any] = {
        "about": "The worked exchange of docs/protocol.md, whole. Bytes are hexadecimal. The keys are public: use them nowhere.",
        "device_id": exchange.device_id,
        "ak_name": exchange.ak.name.hex(),
        "device_key_name": exchange.device_key.name.hex(),
        "ek_spki": spki(exchange.ek).hex(),
        "activation_secret": exchange.secret.hex(),
        "enrol_certify_binding": exchange.certify_binding.hex(),
        "enrol_quote_binding": exchange.quote_binding.hex(),
        "attest_quote_binding": exchange.attest_binding.hex(),
        "messages": {
            name: {"cbor": codec.encode(message, codec.CBOR).hex(), "json": codec.encode(message, codec.JSON).decode()}
            for name, message in exchange.by_name()
        },
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _wrapped(text: str, width: int = 112) -> str:
    return "\n".join(text[start : start + width] for start in range(0, len(text), width))


def _documented(file: str) -> dict[str, str]:
    """Return name → the string that stands below its assignment."""
    found: dict[str, str] = {}
    body = ast.parse(Path(file).read_text(encoding="utf-8")).body
    for statement, following in pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            value = following.value if isinstance(following, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[statement.target.id] = " ".join(value.value.split())
    return found


# --- docs/lifecycle.md -------------------------------------------------------------------------------------------------


def lifecycle_diagram() -> str:
    """Return the table of moves as a Mermaid diagram: one arrow for each pair of states."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), following in MOVES.items():
        arrows.setdefault((state.value if state else "[*]", following.value), []).append(event.value)
    lines = [f"    {a} --> {b}: {', '.join(events)}" for (a, b), events in arrows.items() if a != b]
    return _fenced("mermaid", "stateDiagram-v2\n" + "\n".join(lines))


def lifecycle_states() -> str:
    """Return what each state means to a relying party and for the device's credentials."""
    rows = [
        (f"`{state.value}`", meaning.text, "yes" if meaning.trusted else "no", "kept" if meaning.keeps else "withdrawn")
        for state, meaning in MEANINGS.items()
    ]
    return _table(("state", "the device", "trusted", "credentials"), rows)


def lifecycle_moves() -> str:
    """Return the whole table: a row for each state, a column for each event, empty where there is no move."""
    events = list(dict.fromkeys(event for _, event in MOVES))
    states = [None, *MEANINGS]
    rows: list[tuple[str, ...]] = []
    for state in states:
        cells = (MOVES.get((state, event)) for event in events)
        rows.append((f"`{state.value}`" if state else "*(new)*", *(cell.value if cell else "" for cell in cells)))
    return _table(("", *(event.value for event in events)), rows)


def agent_diagram() -> str:
    """Return the agent's own table of moves as a Mermaid diagram."""
    return _fenced("mermaid", machine.diagram())


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
        sections.append(f"### {title}\n\n" + _table(("id", "attack", "refused as", "tests"), rows))
    return "\n".join(sections)


# --- docs/operations.md ------------------------------------------------------------------------------------------------


def configuration() -> str:
    """Return every setting of attestd.toml with its default."""
    sections = []
    for name, field in config.Configuration.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            text = " ".join((section.__doc__ or "").split())
            rows = [(f"`{key}`", _default(inner)) for key, inner in section.model_fields.items()]
            sections.append(f"`[{name}]`: {text}\n\n" + _table(("setting", "default"), rows))
    return "\n".join(sections)


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return "*(required)*"
    value = field.default
    if isinstance(value, tuple):
        return "`[" + ", ".join(_toml(item) for item in value) + "]`"
    return f"`{_toml(value)}`"


def _toml(value: object) -> str:
    if isinstance(value, bool | int):
        return str(value).lower()
    return json.dumps(str(value), ensure_ascii=False)
