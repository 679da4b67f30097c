"""A profile's text is changed in places and kept elsewhere: what people wrote into it, comments above all, stays as it is.

Proves nothing: whoever edits reads the result again and compares. Assumes a text that `appraisal.document.read_yaml` accepts (no
anchors, aliases or tags; bounded), so that composing it is harmless.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import yaml

from attestd.appraisal.writing import quoted

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Pairs = Sequence[tuple[str, str]]
"""Keys and values of a small mapping, the values as they are written."""


class Edited:
    """A text, and the changes that are to be made to it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._changes: list[tuple[int, int, int, str]] = []
        self._grown: set[int] = set()
        self.root: Any = yaml.compose(text, Loader=_LOADER)

    def applied(self) -> str:
        """Return the text with all changes."""
        pieces, position = [], 0
        # What grows inside something comes before what follows it at the same place: the deeper one first.
        for start, _, end, new in sorted(self._changes, key=lambda change: change[:2]):
            pieces += [self._text[position:start], new]
            position = end
        return "".join([*pieces, self._text[position:]])

    def write_above(self, comments: Iterable[str]) -> None:
        """Put comments above everything."""
        self._change(0, 0, "".join(f"# {line}\n" for line in comments))

    def write_scalar(self, node: Any, new: str) -> None:
        """Put another value into the place of a scalar."""
        self._change(node.start_mark.index, node.end_mark.index, new)

    def write_remarked(self, node: Any, new: str, remark: str) -> None:
        """Put another value into the place of a scalar, and a remark into the place of the one behind it on its line."""
        start = node.end_mark.index
        end = self._text.find("\n", start)
        rest = self._text[start : end if end >= 0 else None]
        if rest.strip() and not rest.lstrip().startswith("#"):
            self.write_scalar(node, new)
            return
        self._change(node.start_mark.index, start + len(rest), f"{new}  # {remark}")

    def append(self, sequence: Any, items: Sequence[Pairs]) -> None:
        """Put mappings at the end of a sequence that is not empty."""
        if sequence.flow_style:
            self._insert(_end(sequence.value[-1]), "".join(f", {_flow(item)}" for item in items))
        else:
            column = sequence.start_mark.column
            self._insert_lines(_end(sequence.value[-1]), [line for item in items for line in _block(item, column)])

    def replace(self, sequence: Any, items: Sequence[Pairs]) -> None:
        """Put mappings into the place of all that a sequence has."""
        if sequence.flow_style:
            new = f"[{', '.join(map(_flow, items))}]"
        else:
            lines = [line for item in items for line in _block(item, sequence.start_mark.column)]
            new = "\n".join(lines).lstrip(" ")
        end = _end(sequence)
        kept = "\n" if self._text[end - 1 : end] == "\n" else ""
        self._change(sequence.start_mark.index, end, new + kept)

    def add(self, mapping: Any, key: str, value: Pairs, items: Sequence[Pairs]) -> None:
        """Put a key with `value` and the sequence `accept` at the end of a mapping."""
        if mapping.flow_style or not mapping.value:
            inner = ", ".join([*(f"{k}: {v}" for k, v in value), f"accept: [{', '.join(map(_flow, items))}]"])
            comma = ", " if mapping.value or id(mapping) in self._grown else ""
            self._grown.add(id(mapping))
            where = _end(mapping.value[-1][1]) if mapping.value else mapping.start_mark.index + 1
            self._insert(where, f"{comma}{quoted(key)}: {{{inner}}}", depth=1)
            return
        column = mapping.value[0][0].start_mark.column
        margin, inside = " " * column, " " * (column + 2)
        lines = [f"{margin}{key}:", *(f"{inside}{k}: {v}" for k, v in value), f"{inside}accept:"]
        lines += [line for item in items for line in _block(item, column + 4)]
        self._insert_lines(_end(mapping.value[-1][1]), lines, depth=1)

    def _change(self, start: int, end: int, new: str, *, order: int = 0) -> None:
        self._changes.append((start, order, end, new))

    def _insert(self, where: int, new: str, *, depth: int = 2) -> None:
        self._change(where, where, new, order=-depth)

    def _insert_lines(self, where: int, lines: Sequence[str], *, depth: int = 2) -> None:
        """Put lines behind the line in which something ends, so that a remark at its end stays with it."""
        if self._text[where - 1 : where] != "\n":
            found = self._text.find("\n", where)
            if found < 0:
                self._insert(len(self._text), "\n" + "\n".join(lines), depth=depth)
                return
            where = found + 1
        self._insert(where, "".join(f"{line}\n" for line in lines), depth=depth)


def entry(mapping: Any, key: str) -> Any:
    """Return the value of a key, or None."""
    return next((value for name, value in mapping.value if name.value == key), None)


def _end(node: Any) -> int:
    """Return where a node ends: a block collection ends with the last thing in it, not where the next begins."""
    while not isinstance(node, yaml.ScalarNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    index: int = node.end_mark.index
    return index


def _flow(item: Pairs) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in item) + "}"


def _block(item: Pairs, column: int) -> list[str]:
    margin = " " * column
    return [f"{margin}{'  ' if number else '- '}{key}: {value}" for number, (key, value) in enumerate(item)]
