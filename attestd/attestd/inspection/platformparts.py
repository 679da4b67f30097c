"""What a platform certificate says a machine is made of, in the three versions of the profile.

Proves nothing: it reads attributes whose signature others judge. TCG Platform Certificate Profile 1.0 and 1.1 (3.1.6 components,
3.1.7 properties), 2.0 and 2.1 (3.3.19: a component is a list of traits, each with its category). What is odd inside one component
leaves the others readable: an unknown field is passed over, and a text in any string type is a text.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from attestd_pki import der
from attestd_pki.errors import PkiError

MOST_PARTS: Final = 4096
"""Components of one certificate: servers list some hundreds, down to each module of memory."""
MOST_TEXT: Final = 256
V1, V2, V3 = (f"2.23.133.5.1.7.{version}" for version in (1, 2, 3))
CONFIGURATIONS: Final = frozenset({V1, V2, V3})
_TEXTS: Final = {0x0C: "utf-8", 0x13: "latin-1", 0x14: "latin-1", 0x16: "latin-1", 0x1E: "utf-16-be"}
_STATUS: Final = {0: "added", 1: "modified", 2: "removed"}
_REGISTRIES: Final = {
    "2.23.133.18.3.1": "tcg",
    "2.23.133.18.3.2": "ietf",
    "2.23.133.18.3.3": "dmtf",
    "2.23.133.18.3.4": "pcie",
    "2.23.133.18.3.5": "storage",
}
_ADDRESSES: Final = {"2.23.133.17.1": "ethernet", "2.23.133.17.2": "wlan", "2.23.133.17.3": "bluetooth"}
_CATEGORY: Final = "2.23.133.19.2."
_TRAITS: Final = {
    8: "manufacturer",
    9: "model",
    10: "serial",
    11: "status",
    13: "revision",
    14: "field_replaceable",
    31: "manufacturer_id",
}
"""Categories of traits whose value is one text, flag, number or identifier."""
_CLASS, _V11, _ADDRESS = 7, 26, 29
PLATFORM_TRAITS: Final = {1: "manufacturer", 2: "model", 3: "version", 4: "serial", 5: "manufacturer_id"}


@dataclass(frozen=True, slots=True)
class Part:
    """One component; empty where the certificate says nothing. `status` is set in a delta certificate.

    `component_class` is the number in hexadecimal, `registry` whose number it is (empty in version 1.0, which has none),
    `addresses` are "ethernet 001122334455", `field_replaceable` is None where that is not said.
    """

    component_class: str = ""
    manufacturer: str = ""
    model: str = ""
    serial: str = ""
    revision: str = ""
    status: str = ""
    registry: str = ""
    manufacturer_id: str = ""
    field_replaceable: bool | None = None
    addresses: tuple[str, ...] = ()


def parts_of(attributes: Iterable[tuple[str, bytes]]) -> tuple[Part, ...]:
    """Return the components of every configuration ([0] of its SEQUENCE). *Raises* PkiError of `der`."""
    found: list[Part] = []
    for kind, value in attributes:
        for one in _configuration(kind, value):
            if one.tag == 0xA0:
                read = _of_traits if kind == V3 else _of_fields
                found += [read(part.content) for part in der.elements(one.content, most=MOST_PARTS)]
    return tuple(found)


def properties_of(attributes: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, str]]:
    """Yield the properties: pairs of texts in [1] or [2], as the version has it. *Raises* PkiError of `der`."""
    for kind, value in attributes:
        for one in _configuration(kind, value):
            for pair in der.elements(one.content, most=MOST_PARTS) if one.tag in (0xA1, 0xA2) else ():
                texts = [text_of(part) for part in der.elements(pair.content)] if pair.tag == der.SEQUENCE else []
                if len(texts) >= 2:
                    yield texts[0], texts[1]


def addresses_of(attributes: Iterable[tuple[str, bytes]]) -> Iterator[str]:
    """Yield where more is said: the URIs of configurations and of the attribute for it (URIReference)."""
    for kind, value in attributes:
        if kind in ("2.23.133.5.1.3", "2.23.133.5.1.7.4"):
            references = [der.only(value, der.SEQUENCE)]
        else:
            references = [one for one in _configuration(kind, value) if one.tag in (0xA1, 0xA2, 0xA3)]
        for reference in references:
            first = der.elements(reference.content, most=MOST_PARTS)[:1]
            if first and first[0].tag == 0x16:
                yield text_of(first[0])


def _configuration(kind: str, value: bytes) -> tuple[der.Element, ...]:
    if kind not in CONFIGURATIONS:
        return ()
    return der.elements(der.only(value, der.SEQUENCE).content)


def text_of(element: der.Element) -> str:
    """Return a text of any string type; other types in hexadecimal."""
    encoding = _TEXTS.get(element.tag)
    return element.content.decode(encoding, "replace")[:MOST_TEXT] if encoding else element.content.hex()[:MOST_TEXT]


def _of_fields(content: bytes) -> Part:
    """Read componentIdentifier of 1.0 (without class) and 1.1."""
    texts: list[str] = []
    found: dict[str, str] = {}
    addresses: tuple[str, ...] = ()
    replaceable = None
    for one in der.elements(content):
        if one.tag == der.SEQUENCE and not texts:
            found["registry"], found["component_class"] = _class(one.content)
        elif one.tag in _TEXTS:
            texts.append(text_of(one))
        elif one.tag in (0x80, 0x81):
            name = "serial" if one.tag == 0x80 else "revision"
            found[name] = one.content.decode("utf-8", "replace")[:MOST_TEXT]
        elif one.tag == 0x82:
            found["manufacturer_id"] = _identifier(one.content)
        elif one.tag == 0x83:
            replaceable = one.content != b"\x00"
        elif one.tag == 0xA4:
            addresses = tuple(_address(part.content) for part in der.elements(one.content))
        elif one.tag == 0x87:
            found["status"] = _STATUS.get(int.from_bytes(one.content[:8], "big"), "")
    manufacturer, model = (*texts, "", "")[:2]
    return Part(manufacturer=manufacturer, model=model, field_replaceable=replaceable, addresses=addresses, **found)


def _of_traits(content: bytes) -> Part:
    """Read ComponentIdentifier of 2.0: SEQUENCE OF Trait, of which one may hold a whole component in the form of 1.1."""
    found: dict[str, str] = {}
    addresses: list[str] = []
    whole = Part()
    for category, value in traits_of(content):
        if category == _V11:
            whole = _of_fields(der.only(value.raw, der.SEQUENCE).content)
        elif category == _CLASS:
            found["component_class"] = text_of(value)
        elif category == _ADDRESS:
            addresses.append(_address(value.content))
        elif category in _TRAITS:
            found[_TRAITS[category]] = _plain(value)
    for _, registry in _registries(content):
        found.setdefault("registry", registry)
    replaceable = found.pop("field_replaceable", None)
    found["status"] = _STATUS.get(int(found["status"], 16), "") if found.get("status") else ""
    told = {name: text for name, text in found.items() if text}
    fields = {name: getattr(whole, name) for name in whole.__slots__} | told
    if replaceable is not None:
        fields["field_replaceable"] = replaceable != "00"
    return Part(**{**fields, "addresses": (*whole.addresses, *addresses)})


def traits_of(content: bytes) -> Iterator[tuple[int, der.Element]]:
    """Yield (number of the category, value) of a list of traits whose category is the TCG's. *Raises* PkiError of `der`."""
    for trait in der.elements(content):
        parts = der.elements(trait.content)
        if len(parts) < 4 or parts[-1].tag != der.OCTET_STRING:
            raise PkiError("certificate-malformed", "a trait is not made of three identifiers and a value")
        category = der.object_identifier(parts[1]).removeprefix(_CATEGORY)
        if category.isdigit():
            values = der.elements(parts[-1].content)
            if len(values) == 1:
                yield int(category), values[0]


def _registries(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield (category, registry) of the traits that name a registry of component classes."""
    for trait in der.elements(content):
        _, category, registry = (der.object_identifier(part) for part in der.elements(trait.content)[:3])
        if registry in _REGISTRIES:
            yield category, _REGISTRIES[registry]


def _plain(value: der.Element) -> str:
    return _identifier(value.content) if value.tag == der.OBJECT_IDENTIFIER else text_of(value)


def _class(content: bytes) -> tuple[str, str]:
    """Return (registry, number) of ComponentClass: SEQUENCE { registry OBJECT IDENTIFIER, value OCTET STRING }."""
    parts = der.elements(content)
    registry = next((der.object_identifier(part) for part in parts if part.tag == der.OBJECT_IDENTIFIER), "")
    number = "".join(part.content.hex() for part in parts if part.tag == der.OCTET_STRING)
    return _REGISTRIES.get(registry, registry), number[:MOST_TEXT]


def _address(content: bytes) -> str:
    """Return ComponentAddress: SEQUENCE { type OBJECT IDENTIFIER, value UTF8String }."""
    kind, value = (*der.elements(content), None, None)[:2]
    if kind is None or value is None:
        raise PkiError("certificate-malformed", "an address is not made of a type and a text")
    named = der.object_identifier(kind)
    return f"{_ADDRESSES.get(named, named)} {text_of(value)}"


def _identifier(content: bytes) -> str:
    """Return the content of an OBJECT IDENTIFIER in its dotted form, or in hexadecimal where it is none."""
    try:
        return der.object_identifier(der.Element(der.OBJECT_IDENTIFIER, b"", content))
    except PkiError:
        return content.hex()[:MOST_TEXT]
