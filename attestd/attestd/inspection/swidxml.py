"""A SWID tag in XML (ISO 19770-2:2015), with what TCG's reference manifests add to it.

Proves the form. What it says of files and measurements is what its author says.
"""

from typing import Final

from attestd.inspection.refused import InspectionRefused
from attestd.inspection.swid import CoswidReport, File
from attestd.inspection.xmlread import Element
from attestd.protocol.limits import INSPECTED_PATH

_HASHES: Final = {32: "sha256", 48: "sha384", 64: "sha512"}
_NAMED: Final = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
_RIM_FIELDS: Final = frozenset({"bindingspec", "rimlinkhash", "payloadtype"})
"""Attributes of Meta that make a tag a reference manifest (TCG RIM Information Model), whatever their spelling."""
Pairs = tuple[tuple[str, str], ...]


def read_swid(root: Element) -> tuple[CoswidReport, Pairs, Pairs]:
    """Return the tag, the attributes of its Meta, and its links as (rel, href). *Raises* `InspectionRefused` ("rim-malformed")."""
    if root.local != "SoftwareIdentity":
        raise InspectionRefused("rim-malformed", f"the root is {root.local[:40]}, not SoftwareIdentity")
    entities = tuple(
        f"{one.attribute('name') or '?'} ({one.attribute('role') or 'no role'})" for one in root.elements("Entity")
    )
    fields = tuple((name.rpartition(":")[2], value) for one in root.elements("Meta") for name, value in one.attributes)
    manifest = any(name.lower() in _RIM_FIELDS for name, _ in fields)
    tag = CoswidReport(
        root.attribute("tagId") or "",
        root.attribute("name") or "",
        root.attribute("version"),
        entities,
        tuple(file for payload in root.elements("Payload") for file in _files(payload, "file")),
        manifest=manifest,
        found=tuple(file for place in root.elements("Evidence") for file in _files(place, "evidence")),
    )
    links = tuple((one.attribute("rel") or "", one.attribute("href") or "") for one in root.elements("Link"))
    return tag, fields, links


def _files(payload: Element, kind: str) -> list[File]:
    found: list[File] = []
    waiting = [(payload, "")]
    while waiting:
        place, path = waiting.pop()
        found += [_file(one, _joined(path, one), kind) for one in place.elements("File")]
        found += [
            _file(one, one.attribute("name") or "", one.attribute("type") or "resource") for one in _resources(place)
        ]
        waiting += [(one, _joined(path, one)) for one in place.elements("Directory")]
    return found


def _resources(place: Element) -> list[Element]:
    """Return the resources that say what something is measured as; others name no file and have no hash."""
    return [one for one in place.elements("Resource") if any(_is_hash(one, name) for name, _ in one.attributes)]


def _joined(path: str, element: Element) -> str:
    """Return where a file lies: below its directory, or at root and location where it says them itself."""
    name = element.attribute("name") or ""
    own = "/".join(part.rstrip("/") for part in (element.attribute("root"), element.attribute("location")) if part)
    above = own if own and (own.startswith("/") or not path) else f"{path}/{own}".rstrip("/") if own else path
    whole = f"{above.rstrip('/')}/{name}" if above else name
    if len(whole) > INSPECTED_PATH:
        raise InspectionRefused("rim-malformed", "a path that is longer than any file's")
    return whole


def _file(element: Element, path: str, kind: str) -> File:
    size = element.attribute("size") or ""
    hashes = tuple(_hash(element, name, value) for name, value in element.attributes if _is_hash(element, name))
    number = int(size) if size.isascii() and size.isdigit() and len(size) < 20 else None
    return File(path, number, hashes, kind)


def _is_hash(element: Element, name: str) -> bool:
    local = name.rpartition(":")[2].lower()
    return local.rstrip("0123456789") == "hash" or "SHA" in name.upper() or "#sha" in element.space_of(name)


def _hash(element: Element, name: str, value: str) -> str:
    """Return a hash by the algorithm that its namespace or prefix names; by its size where neither does."""
    prefix = name.rpartition(":")[0] or name
    spoken = f"{element.space_of(name).rpartition('#')[2]} {prefix}".lower().replace("-", "")
    try:
        size = len(bytes.fromhex(value))
    except ValueError:
        return f"{name}:{value[:128]}"
    named = next((word for word in _NAMED if word in spoken.split()), None)
    if named is not None and _NAMED[named] != size:
        return f"{name}:{value[:128]}"  # it is not as long as it says: nobody can mean it
    return f"{named or _HASHES.get(size, prefix.lower())}:{value.lower()}"
