"""The canonical form of a tree, which is what an XML signature is over: Canonical XML 1.0 and 1.1, inclusive and exclusive.

Proves that two spellings of one document give the same bytes. Without processing instructions and document types, which the reader
refuses, these forms differ in what they say of namespaces and of xml: attributes around the element, and in whether comments stay.
"""

from dataclasses import dataclass
from typing import Final

from attestd.inspection.xmlread import Comment, Element

_TEXT: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#xD;"})
_VALUE: Final = str.maketrans({"&": "&amp;", "<": "&lt;", '"': "&quot;", "\t": "&#x9;", "\n": "&#xA;", "\r": "&#xD;"})
_VERSION_1_0: Final = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
_VERSION_1_1: Final = "http://www.w3.org/2006/12/xml-c14n11"
EXCLUSIVE: Final = "http://www.w3.org/2001/10/xml-exc-c14n#"


@dataclass(frozen=True, slots=True)
class Form:
    """One canonical form. `prefixes` are treated as in the inclusive form ("" is the default namespace)."""

    exclusive: bool = False
    comments: bool = False
    fixes_base: bool = False
    prefixes: frozenset[str] = frozenset()


INCLUSIVE: Final = Form()
FORMS: Final = {
    _VERSION_1_0: INCLUSIVE,
    f"{_VERSION_1_0}#WithComments": Form(comments=True),
    _VERSION_1_1: Form(fixes_base=True),
    f"{_VERSION_1_1}#WithComments": Form(comments=True, fixes_base=True),
    EXCLUSIVE: Form(exclusive=True),
    f"{EXCLUSIVE}WithComments": Form(exclusive=True, comments=True),
}
"""By their identifiers (XMLDSig 1.1, 6.5; Exclusive XML Canonicalization 1.0)."""


def canonical(root: Element, form: Form = INCLUSIVE, *, without: Element | None = None) -> bytes:
    """Return an element and what is in it in a canonical form, less one element (an enveloped signature).

    What the ancestors declare, and their xml: attributes, are written at `root` (Canonical XML 1.0, 2.4), unless the form is
    exclusive. *Assumes* of version 1.1 that no ancestor has xml:base (`based` tells).
    """
    inherited = {} if form.exclusive else _inherited(root, form)
    own = dict(root.attributes)
    extra = tuple((name, value) for name, value in inherited.items() if name not in own)
    parts: list[str] = []
    _write(root, {"": ""}, form, extra, without, parts)
    return "".join(parts).encode()


def based(element: Element) -> bool:
    """Return whether an ancestor has xml:base, which version 1.1 joins with the element's own (2.4)."""
    ancestor = element.parent
    while ancestor is not None:
        if any(name == "xml:base" for name, _ in ancestor.attributes):
            return True
        ancestor = ancestor.parent
    return False


def _inherited(root: Element, form: Form) -> dict[str, str]:
    found: dict[str, str] = {}
    ancestor = root.parent
    while ancestor is not None:
        for name, value in ancestor.attributes:
            if name.startswith("xml:") and not (form.fixes_base and name == "xml:id"):
                found.setdefault(name, value)
        ancestor = ancestor.parent
    return found


def _write(
    element: Element,
    written: dict[str, str],
    form: Form,
    extra: tuple[tuple[str, str], ...],
    without: Element | None,
    parts: list[str],
) -> None:
    """Append one element; recursion is bounded, since reading bounds the depth, and so is what is in scope."""
    new = _declared(element, written, form)
    names = "".join(
        f' xmlns{":" if prefix else ""}{prefix}="{uri.translate(_VALUE)}"' for prefix, uri in sorted(new.items())
    )
    ordered = sorted(
        (*element.attributes, *extra), key=lambda pair: (element.space_of(pair[0]), pair[0].rpartition(":")[2])
    )
    values = "".join(f' {name}="{value.translate(_VALUE)}"' for name, value in ordered)
    parts.append(f"<{element.name}{names}{values}>")
    below = {**written, **new} if new else written
    for child in element.children:
        if isinstance(child, str):
            parts.append(child.translate(_TEXT))
        elif isinstance(child, Comment):
            parts += [f"<!--{child.text}-->"] if form.comments else []
        elif child is not without:
            _write(child, below, form, (), without, parts)
    parts.append(f"</{element.name}>")


def _declared(element: Element, written: dict[str, str], form: Form) -> dict[str, str]:
    """Return the namespaces to write here: those in scope that are not written yet, of an exclusive form only the used ones."""
    if not form.exclusive:
        return {prefix: uri for prefix, uri in element.spaces.items() if written.get(prefix) != uri}
    used = {element.name.rpartition(":")[0]}
    used |= {name.rpartition(":")[0] for name, _ in element.attributes if ":" in name and not name.startswith("xml:")}
    wanted = used | form.prefixes
    found = {prefix: element.spaces[prefix] for prefix in wanted if prefix in element.spaces}
    if "" in used:
        found.setdefault("", "")
    return {prefix: uri for prefix, uri in found.items() if written.get(prefix) != uri}
