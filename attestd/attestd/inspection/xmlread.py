"""XML of a manifest: a bounded tree, and its canonical form (Canonical XML 1.0, inclusive, without comments).

Proves that the bytes are one document of elements and text, no deeper and no larger than the bounds. Refuses what a manifest has no
use for and an attacker has: document types (and with them entities), processing instructions, encodings other than UTF-8.
"""

from dataclasses import dataclass, field
from typing import Any, Final
from xml.parsers import expat

from attestd.inspection.refused import InspectionRefused
from attestd.protocol.limits import INSPECTED_DOCUMENT, INSPECTED_ITEMS, INSPECTED_NESTING

_XML: Final = "http://www.w3.org/XML/1998/namespace"
_TEXT: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#xD;"})
_VALUE: Final = str.maketrans({"&": "&amp;", "<": "&lt;", '"': "&quot;", "\t": "&#x9;", "\n": "&#xA;", "\r": "&#xD;"})


@dataclass(slots=True)
class Element:
    """One element as it was written. `spaces` are all namespaces in its scope, `declared` those that it declares itself.

    `attributes` have the names of the document, prefix included. `children` are elements and texts.
    """

    name: str
    attributes: tuple[tuple[str, str], ...]
    declared: dict[str, str]
    spaces: dict[str, str]
    parent: "Element | None" = field(repr=False)
    children: "list[Element | str]" = field(default_factory=list, repr=False)

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

    def space_of(self, attribute: str) -> str:
        """Return the namespace of an attribute; one without a prefix has none."""
        prefix = attribute.rpartition(":")[0]
        return _XML if prefix == "xml" else self.spaces.get(prefix, "") if prefix else ""


def read_xml(data: bytes) -> Element:
    """Return the root. *Raises* `InspectionRefused` ("xml-size", "xml-malformed", "xml-forbidden")."""
    if len(data) > INSPECTED_DOCUMENT:
        raise InspectionRefused("xml-size", f"an XML document of {len(data)} bytes")
    builder = _Builder()
    parser = expat.ParserCreate("UTF-8")
    parser.ordered_attributes = True
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.characters
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
        spaces = {**(parent.spaces if parent is not None else {}), **declared}
        element = Element(name, plain, declared, spaces, parent)
        if parent is None:
            self.root = element
        else:
            parent.children.append(element)
        self.open.append(element)

    def end(self, _: str) -> None:
        self.open.pop()

    def characters(self, text: str) -> None:
        if self.open:
            self.open[-1].children.append(text)


def canonical(root: Element, *, without: Element | None = None) -> bytes:
    """Return an element and what is in it in canonical form, less one element (an enveloped signature).

    What the ancestors declare, and their xml: attributes, are written at `root` (Canonical XML 1.0, 2.4).
    """
    inherited: dict[str, str] = {}
    ancestor = root.parent
    while ancestor is not None:
        for name, value in ancestor.attributes:
            if name.startswith("xml:"):
                inherited.setdefault(name, value)
        ancestor = ancestor.parent
    own = dict(root.attributes)
    extra = tuple((name, value) for name, value in inherited.items() if name not in own)
    parts: list[str] = []
    _write(root, {"": ""}, dict(root.spaces), extra, without, parts)
    return "".join(parts).encode()


def _write(
    element: Element,
    written: dict[str, str],
    spaces: dict[str, str],
    extra: tuple[tuple[str, str], ...],
    without: Element | None,
    parts: list[str],
) -> None:
    """Append one element; recursion is bounded, since reading bounds the depth."""
    new = {prefix: uri for prefix, uri in spaces.items() if written.get(prefix) != uri}
    names = "".join(
        f' xmlns{":" if prefix else ""}{prefix}="{uri.translate(_VALUE)}"' for prefix, uri in sorted(new.items())
    )
    ordered = sorted(
        (*element.attributes, *extra), key=lambda pair: (element.space_of(pair[0]), pair[0].rpartition(":")[2])
    )
    values = "".join(f' {name}="{value.translate(_VALUE)}"' for name, value in ordered)
    parts.append(f"<{element.name}{names}{values}>")
    for child in element.children:
        if isinstance(child, str):
            parts.append(child.translate(_TEXT))
        elif child is not without:
            _write(child, {**written, **new}, child.declared, (), without, parts)
    parts.append(f"</{element.name}>")
