"""XML of a manifest: a bounded tree, as much of it as a canonical form needs (xmlcanonical.py).

Proves that the bytes are one document of elements and text, no deeper and no larger than the bounds. Refuses what a manifest has no
use for and an attacker has: document types (and with them entities), processing instructions, encodings other than UTF-8.
"""

from dataclasses import dataclass, field
from typing import Any, Final
from xml.parsers import expat

from attestd.inspection.refused import InspectionRefused
from attestd.protocol.limits import INSPECTED_DOCUMENT, INSPECTED_ITEMS, INSPECTED_NAMESPACES, INSPECTED_NESTING

_XML: Final = "http://www.w3.org/XML/1998/namespace"
_IDENTIFIERS: Final = frozenset({"Id", "ID", "id", "xml:id"})


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment: some canonical forms keep it, and nobody reads it."""

    text: str


@dataclass(slots=True)
class Element:
    """One element as it was written. `spaces` are all namespaces in its scope, `declared` those that it declares itself.

    `attributes` have the names of the document, prefix included. `children` are elements, texts and comments.
    """

    name: str
    attributes: tuple[tuple[str, str], ...]
    declared: dict[str, str]
    spaces: dict[str, str]
    parent: "Element | None" = field(repr=False)
    children: "list[Element | str | Comment]" = field(default_factory=list, repr=False)

    @property
    def local(self) -> str:
        """Return the name without its prefix."""
        return self.name.rpartition(":")[2]

    @property
    def space(self) -> str:
        """Return the namespace's URI, empty for none."""
        return self.spaces.get(self.name.rpartition(":")[0], "")

    def attribute(self, local: str) -> str | None:
        """Return the attribute with this local name, whatever its prefix."""
        return next((value for name, value in self.attributes if name.rpartition(":")[2] == local), None)

    def elements(self, local: str | None = None) -> "list[Element]":
        """Return the child elements, or those with this local name."""
        return [one for one in self.children if isinstance(one, Element) and local in (None, one.local)]

    def text(self) -> str:
        """Return the text directly inside."""
        return "".join(one for one in self.children if isinstance(one, str))

    @property
    def identifiers(self) -> frozenset[str]:
        """Return what a reference within the document may call it."""
        return frozenset(value for name, value in self.attributes if name in _IDENTIFIERS)

    def space_of(self, attribute: str) -> str:
        """Return the namespace of an attribute; one without a prefix has none."""
        prefix = attribute.rpartition(":")[0]
        return _XML if prefix == "xml" else self.spaces.get(prefix, "") if prefix else ""


def read_xml(data: bytes) -> Element:
    """Return the root. *Raises* `InspectionRefused` ("xml-size", "xml-malformed", "xml-forbidden")."""
    return _read(data, _Builder())


def read_xml_unindented(data: bytes) -> Element:
    """Return the root without the text between elements that is nothing but space. *Raises* as `read_xml`.

    Makers' tools sign a document and indent it afterwards (HIRS); nothing that a manifest says is in that space.
    """
    return _read(data, _Unindented())


def _read(data: bytes, builder: "_Builder") -> Element:
    if len(data) > INSPECTED_DOCUMENT:
        raise InspectionRefused("xml-size", f"an XML document of {len(data)} bytes")
    parser = expat.ParserCreate("UTF-8")
    parser.ordered_attributes = True
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.characters
    parser.CommentHandler = builder.comment
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = parser.ProcessingInstructionHandler = _forbid
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise InspectionRefused("xml-malformed", f"not XML: {error}") from None
    if builder.root is None:
        raise InspectionRefused("xml-malformed", "there is no element")
    return builder.root


def _forbid(*_: Any) -> None:
    raise InspectionRefused("xml-forbidden", "document types, entities and processing instructions have no place here")


class _Builder:
    """Builds the tree out of the parser's events."""

    def __init__(self) -> None:
        self.root: Element | None = None
        self.open: list[Element] = []
        self.count = 0

    def start(self, name: str, attributes: list[str]) -> None:
        self.count += 1 + len(attributes) // 2
        if len(self.open) >= INSPECTED_NESTING or self.count > INSPECTED_ITEMS:
            raise InspectionRefused("xml-malformed", "nested too deep, or too many elements")
        parent = self.open[-1] if self.open else None
        pairs = list(zip(attributes[::2], attributes[1::2], strict=True))
        declared = {key.partition(":")[2]: value for key, value in pairs if key == "xmlns" or key.startswith("xmlns:")}
        plain = tuple((key, value) for key, value in pairs if key != "xmlns" and not key.startswith("xmlns:"))
        above = parent.spaces if parent is not None else {}
        spaces = {**above, **declared} if declared else above  # shared, as long as nothing is declared
        if len(spaces) > INSPECTED_NAMESPACES:
            raise InspectionRefused("xml-malformed", f"more than {INSPECTED_NAMESPACES} namespaces at one place")
        element = Element(name, plain, declared, spaces, parent)
        if parent is None:
            self.root = element
        else:
            parent.children.append(element)
        self.open.append(element)

    def end(self, _: str) -> None:
        self.open.pop()

    def comment(self, text: str) -> None:
        if self.open:
            self.count += 1
            self.open[-1].children.append(Comment(text))

    def characters(self, text: str) -> None:
        if self.open:
            self.open[-1].children.append(text)


class _Unindented(_Builder):
    """Builds the tree without texts that are space alone."""

    def characters(self, text: str) -> None:
        if not text.isspace():
            super().characters(text)
