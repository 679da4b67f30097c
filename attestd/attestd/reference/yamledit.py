"""A profile's text is changed in places and kept elsewhere: what people wrote into it, comments above all, stays as it is.

`Edited` changes values and adds to lists, whatever the style; `EditedLines` puts whole entries, whose lines have remarks of their
own, into mappings in block style. Proves nothing: whoever edits reads the result again and compares. Assumes a text that
`appraisal.document.read_yaml` accepts (no anchors, aliases or tags; bounded), so that composing it is harmless.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import yaml

from attestd.appraisal.writing import quoted

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Pairs = Sequence[tuple[str, str]]
"""Keys and values of a small mapping, the values as they are written."""
Lines = list[str]


class LayoutRefused(ValueError):
    """A text that cannot be changed in its places; the message says why."""


class Edited:
    """A text, and the changes that are to be made to it, by the characters that they replace."""

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


def _last(node: Any) -> Any:
    """Return the node with which a node ends: a block collection ends with the last thing in it, not where the next begins."""
    while not isinstance(node, yaml.ScalarNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return node


def _end(node: Any) -> int:
    index: int = _last(node).end_mark.index
    return index


def _flow(item: Pairs) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in item) + "}"


def _block(item: Pairs, column: int) -> list[str]:
    margin = " " * column
    return [f"{margin}{'  ' if number else '- '}{key}: {value}" for number, (key, value) in enumerate(item)]


class EditedLines:
    """A text of block mappings, and the lines that are to be replaced and added: whole entries, never parts of lines.

    *Raises* `LayoutRefused` for a text in another style.
    """

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._edits: list[tuple[int, int, Lines]] = []
        self._added: dict[str, Lines] = {}
        self._top: Lines = []
        self.root: Any = yaml.compose(text, Loader=_LOADER)
        if not isinstance(self.root, yaml.MappingNode) or self.root.flow_style:
            raise LayoutRefused("the profile's keys are not on lines of their own")

    def section(self, key: str) -> Any:
        """Return the value of a key of the document if it is a mapping that can be added to, else the key itself."""
        value = self.child(self.root, key)
        return value if value is not None else key

    def child(self, mapping: Any, key: str) -> Any:
        """Return the block mapping under a key, or None."""
        found = entry(mapping, key)
        usable = isinstance(found, yaml.MappingNode) and not found.flow_style and bool(found.value)
        return found if usable else None

    def scalar(self, key: str, new: str) -> None:
        """Put another value on the line of a key of the document."""
        node = entry(self.root, key)
        line, first, last = node.start_mark.line, node.start_mark.column, node.end_mark.column
        if node.end_mark.line != line:
            raise LayoutRefused(f"`{key}` of the profile is not on one line")
        self._edits.append((line, line + 1, [self._lines[line][:first] + new + self._lines[line][last:]]))

    def put(self, mapping: Any, key: str, lines: Lines) -> None:
        """Put an entry in the place of the one with this key, or behind the last one. `lines` have the margin of a new document."""
        if isinstance(mapping, str):
            self._added.setdefault(mapping, []).extend(lines)
            return
        own = len(lines[0]) - len(lines[0].lstrip(" "))
        shift = mapping.value[0][0].start_mark.column - own
        moved = [" " * shift + line if shift >= 0 else line[-shift:] for line in lines]
        for name, value in mapping.value:
            if name.value == key:
                start, end = name.start_mark.line, _last_line(name, value) + 1
                self._edits.append((start, end, _remarked(moved, self._lines[start:end])))
                return
        end = _last_line(*mapping.value[-1]) + 1
        self._edits.append((end, end, moved))

    def above(self, lines: Lines) -> None:
        """Put lines above everything."""
        self._top = lines

    def text(self) -> str:
        """Return the text with all changes."""
        lines = list(self._lines)
        # From the bottom up; at one place what replaces lines before what is added, and the last addition first.
        numbered = enumerate(self._edits)
        ordered = sorted(numbered, key=lambda item: (item[1][0], item[1][1] > item[1][0], item[0]), reverse=True)
        for _, (start, end, new) in ordered:
            lines[start:end] = new
        while lines and not lines[-1].strip():
            lines.pop()
        for key, added in self._added.items():
            lines += ["", f"{key}:", *added]
        return "\n".join([*self._top, *lines]) + "\n"


def _remarked(new: Lines, old: Lines) -> Lines:
    """Return new lines with the remarks that old ones of the same content have."""
    remarks = {content: remark for content, remark in map(_parted, old) if remark}
    return [f"{_parted(line)[0]}  {remarks[_parted(line)[0]]}" if _parted(line)[0] in remarks else line for line in new]


def _parted(line: str) -> tuple[str, str]:
    """Return what a line says, and the remark at its end."""
    quote = ""
    for place, character in enumerate(line):
        if quote:
            quote = "" if character == quote and line[place - 1] != "\\" else quote
        elif character in "\"'":
            quote = character
        elif character == "#" and line[:place].strip() and line[place - 1].isspace():
            return line[:place].rstrip(), line[place:]
    return line.rstrip(), ""


def _last_line(name: Any, value: Any) -> int:
    """Return the line on which an entry ends: a block collection ends with the last thing in it."""
    node = _last(value)
    line: int = node.end_mark.line
    # A literal ends where the next line begins.
    first: int = name.start_mark.line
    return max(first, line - 1 if node.end_mark.column == 0 and line > node.start_mark.line else line)
