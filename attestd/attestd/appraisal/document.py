"""Documents that people write: a strict, bounded subset of YAML, and canonical JSON.

Yields only dict, list, str, int and bool. Anchors, aliases, tags, merge keys, duplicate keys, floating-point numbers, null
and several documents are refused: an alias is how a kilobyte becomes a gigabyte, and a date or a `no` that silently
changes its type is how a policy comes to test nothing. Does not know what a profile is.
"""

import json
from typing import Any, Final

import yaml

from attestd.protocol.limits import MAX_NESTING, MAX_PROFILE_DOCUMENT

Node = dict[str, "Node"] | list["Node"] | str | int | bool

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WORDS: Final = {"true": True, "false": False}
_UNQUOTED_MEANING: Final = frozenset({"yes", "no", "on", "off", "null", "~", ""})


class ProfileError(ValueError):
    """A document that is not a profile; `path` names the place, as `claims.kernel.accept[2]`."""

    def __init__(self, path: str, message: str) -> None:
        """Put the place before the sentence."""
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


def read_yaml(text: str) -> Node:
    """Return the one document of the text.

    *Raises* `ProfileError`, with the line, for anything outside the subset.
    """
    if len(text) > MAX_PROFILE_DOCUMENT or len(text.encode("utf-8", "surrogatepass")) > MAX_PROFILE_DOCUMENT:
        raise ProfileError("", f"the document exceeds {MAX_PROFILE_DOCUMENT} bytes")
    try:
        return _Composer(text).document()
    except (yaml.YAMLError, UnicodeEncodeError) as error:  # the latter for text with a lone surrogate
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else ""
        raise ProfileError(where, f"not YAML: {getattr(error, 'problem', None) or 'unreadable text'}") from error


class _Composer:
    """Builds the tree out of the parser's events, so that nothing is ever built that the subset does not have."""

    def __init__(self, text: str) -> None:
        self.events = yaml.parse(text, Loader=_LOADER)
        self.event: Any = next(self.events)

    def document(self) -> Node:
        self._expect(yaml.StreamStartEvent)
        if isinstance(self.event, yaml.StreamEndEvent):
            raise ProfileError("", "the document is empty")
        self._expect(yaml.DocumentStartEvent)
        root = self._node(0)
        self._expect(yaml.DocumentEndEvent)
        if not isinstance(self.event, yaml.StreamEndEvent):
            raise self._refused("one document is expected")
        return root

    def _refused(self, message: str) -> ProfileError:
        return ProfileError(f"line {self.event.start_mark.line + 1}", message)

    def _expect(self, kind: type[Any]) -> Any:
        event = self.event
        if not isinstance(event, kind):
            raise self._refused("unexpected structure")
        self.event = next(self.events)
        return event

    def _node(self, depth: int) -> Node:
        if isinstance(self.event, yaml.AliasEvent) or getattr(self.event, "anchor", None):
            raise self._refused("anchors and aliases are not accepted")
        if getattr(self.event, "tag", None):
            raise self._refused("tags are not accepted")
        if depth >= MAX_NESTING:
            raise self._refused(f"nested deeper than {MAX_NESTING}")
        if isinstance(self.event, yaml.MappingStartEvent):
            return self._mapping(depth)
        if isinstance(self.event, yaml.SequenceStartEvent):
            return self._sequence(depth)
        return self._scalar()

    def _mapping(self, depth: int) -> dict[str, Node]:
        self._expect(yaml.MappingStartEvent)
        found: dict[str, Node] = {}
        while not isinstance(self.event, yaml.MappingEndEvent):
            if not isinstance(self.event, yaml.ScalarEvent):
                raise self._refused("a key must be text")
            # A key is its text: `4:` and `"4":` are the same key.
            key = self.event.value
            if key in found:
                raise self._refused(f"the key {key!r} is there twice")
            if self.event.anchor or self.event.tag or key == "<<":
                raise self._refused("anchors, tags and merge keys are not accepted")
            self._expect(yaml.ScalarEvent)
            found[key] = self._node(depth + 1)
        self._expect(yaml.MappingEndEvent)
        return found

    def _sequence(self, depth: int) -> list[Node]:
        self._expect(yaml.SequenceStartEvent)
        found: list[Node] = []
        while not isinstance(self.event, yaml.SequenceEndEvent):
            found.append(self._node(depth + 1))
        self._expect(yaml.SequenceEndEvent)
        return found

    def _scalar(self) -> str | int | bool:
        value: str = self.event.value
        if self.event.implicit[0]:  # a plain scalar: quoted ones are always text
            if value in _WORDS:
                self._expect(yaml.ScalarEvent)
                return _WORDS[value]
            if value.lower() in _UNQUOTED_MEANING or value.lower() in _WORDS:
                raise self._refused(
                    f"{value or 'nothing'!r} has several meanings: write true or false, or put it in quotes"
                )
            if value.isascii() and value.isdigit() and len(value) <= 20:
                self._expect(yaml.ScalarEvent)
                return int(value)
        self._expect(yaml.ScalarEvent)
        return value


def write_json(document: Node) -> bytes:
    """Return the canonical form: UTF-8, keys sorted, no space."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def read_json(data: bytes) -> Node:
    """Return the document of canonical bytes.

    *Raises* `ProfileError` also for JSON that is not in its canonical form: a digest must name one document.
    """
    if len(data) > MAX_PROFILE_DOCUMENT:
        raise ProfileError("", f"the document exceeds {MAX_PROFILE_DOCUMENT} bytes")
    try:
        document: Node = json.loads(data)
        canonical = write_json(document)
    except (ValueError, RecursionError) as error:
        raise ProfileError("", "not JSON") from error
    if canonical != data:
        raise ProfileError("", "not in canonical form")
    return document
