"""CBOR diagnostic notation (RFC 8949, 8) and JSON for people: long byte strings by their first bytes and their length."""

import json
from collections.abc import Callable, Mapping, Sequence

_WIDTH = 108
SHORT = 20
"""Byte strings up to this length are shown whole."""
_JSON_SHORT = 64
_LONG_TEXT = 160
"""Characters of a text on one line; a longer one is cut like bytes."""


Atom = Callable[[object], str]


class LeftOut(str):
    """Stands for items that were left out."""

    __slots__ = ()


def cbor_diagnostic(value: object, *, most: int = SHORT) -> str:
    """Return a CBOR value in diagnostic notation, broken into lines where it is long.

    A byte string of more than `most` bytes is shown as `h'<first 12>…' / <length> bytes /`, which is a comment in that
    notation and not valid input.
    """

    def atom(item: object) -> str:
        if isinstance(item, bytes):
            return f"h'{item.hex()}'" if len(item) <= most else f"h'{item[:12].hex()}…' / {len(item)} bytes /"
        if isinstance(item, str) and len(item) > _LONG_TEXT and "\n" not in item:
            return f'"{item[:32]}…" / {len(item)} characters /'
        return json.dumps(item, ensure_ascii=False)

    return _layout(value, atom, 0)


def json_abridged(value: object) -> str:
    """Return JSON, broken into lines where it is long; long texts are cut and end in an ellipsis."""

    def atom(item: object) -> str:
        if isinstance(item, str) and len(item) > _JSON_SHORT and "\n" not in item:
            item = f"{item[:32]}…"
        return json.dumps(item, ensure_ascii=False)

    return _layout(value, atom, 0)


def _layout(value: object, atom: Atom, indent: int) -> str:
    flat = _flat(value, atom)
    if len(flat) + indent <= _WIDTH or not isinstance(value, Mapping | list | tuple):
        return flat
    pad = " " * (indent + 2)
    if isinstance(value, Mapping):
        items = [f"{atom(name)}: {_layout(item, atom, indent + 2)}" for name, item in value.items()]
        left, right = "{", "}"
    else:
        items = [_layout(item, atom, indent + 2) for item in _abridged(value)]
        left, right = "[", "]"
    inner = f",\n{pad}".join(items)
    return f"{left}\n{pad}{inner}\n{' ' * indent}{right}"


def _flat(value: object, atom: Atom) -> str:
    if isinstance(value, LeftOut):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{atom(name)}: {_flat(item, atom)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flat(item, atom) for item in _abridged(value)) + "]"
    return atom(value)


def _abridged(values: Sequence[object]) -> Sequence[object]:
    if len(values) > 4 and isinstance(values[0], Mapping):
        return [*values[:2], LeftOut(f"/ … {len(values) - 3} more … /"), values[-1]]
    return values
