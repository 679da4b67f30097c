"""The inventory: which devices the owner has announced, from the files that people have to the document they approve.

Proves, of an `Inventory`, that every id is the one spelling of a device id, every name and site can be shown anywhere as
it is, and no device and no name is there twice. Assumes that the caller has read the files. Does not prove that such a
device exists: its own proof does.

A file is CSV with a header, or a JSON array of objects with the same keys: exactly one of `ek_public_sha256` (hexadecimal
SHA-256 of the endorsement key's DER SubjectPublicKeyInfo), `device_id`, `ek_certificate` (PEM, base64, or a path); and
`name`, `site`, `profile`, and optionally `note`.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from attestd.changes import bounds, canonical
from attestd.changes.errors import ChangeRefused
from attestd.protocol import limits
from attestd_pki import names
from attestd_pki.certificate import parse_certificate
from attestd_pki.errors import PkiError
from attestd_pki.signatures import canonical_spki
from attestd_pki.unwrap import unwrap

IDENTITIES: Final = ("ek_public_sha256", "device_id", "ek_certificate")
REQUIRED: Final = ("name", "site", "profile")
COLUMNS: Final = (*IDENTITIES, *REQUIRED, "note")

_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
_MAX_CELL: Final = 4 * limits.MAX_CERTIFICATE  # a certificate in base64 with its line breaks
_NO_CERTIFICATES: Final[Mapping[str, bytes]] = {}


@dataclass(frozen=True, slots=True)
class InventoryEntry:
    """One announced device. `name`, `site` and `profile` are labels (`attestd_pki.names.parse_label`)."""

    device_id: str
    name: str
    site: str
    profile: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """One inventory change: entries to add or replace, devices to withdraw, both sorted by device id."""

    add: tuple[InventoryEntry, ...]
    withdraw: tuple[str, ...] = ()


# --- From people ----------------------------------------------------------------------------------------------------------


def parse_csv(text: str, *, certificates: Mapping[str, bytes] = _NO_CERTIFICATES) -> tuple[InventoryEntry, ...]:
    """Return the entries of a CSV file, sorted by device id.

    `certificates` maps what stands in `ek_certificate` to the bytes of that file, where the caller has read one.
    *Raises* ChangeRefused `inventory-malformed` or `inventory-duplicate`, with row (of data, from 1) and column.
    """
    reader = csv.reader(text.removeprefix("\ufeff").splitlines(keepends=True), strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        _require_columns(header, None)
        rows = (_csv_row(header, cells, number) for number, cells in enumerate(filter(None, reader), 1))
        return _entries(rows, certificates)
    except csv.Error as error:
        raise ChangeRefused("inventory-malformed", f"line {reader.line_num} is not CSV: {error}") from error


def parse_json(text: str, *, certificates: Mapping[str, bytes] = _NO_CERTIFICATES) -> tuple[InventoryEntry, ...]:
    """Return the entries of a JSON file, sorted by device id. *Raises* as `parse_csv`."""
    try:
        document = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise ChangeRefused("inventory-malformed", "the file is not JSON") from error
    if type(document) is not list:
        raise ChangeRefused("inventory-malformed", "the file is not a JSON array of objects")
    return _entries((_json_row(item, number) for number, item in enumerate(document, 1)), certificates)


def _csv_row(header: Sequence[str], cells: Sequence[str], number: int) -> dict[str, str]:
    if len(cells) != len(header):
        raise ChangeRefused("inventory-malformed", f"{len(cells)} columns, not {len(header)}", row=number)
    return {column: cell.strip() for column, cell in zip(header, cells, strict=True)}


def _json_row(item: object, number: int) -> dict[str, str]:
    if type(item) is not dict:
        raise ChangeRefused("inventory-malformed", "not an object", row=number)
    _require_columns(list(item), number)
    for column, value in item.items():
        if type(value) is not str:
            raise ChangeRefused("inventory-malformed", "not a text", row=number, column=column)
    return item


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def _require_columns(columns: Sequence[str], row: int | None) -> None:
    """Refuse a column that is unknown, twice or missing: a misspelt `profile` must not become a device without one."""
    for column in columns:
        if column not in COLUMNS or columns.count(column) != 1:
            raise ChangeRefused("inventory-malformed", "unknown, or there twice", row=row, column=column[:64])
    for column in REQUIRED:
        if column not in columns:
            raise ChangeRefused("inventory-malformed", "missing", row=row, column=column)


def _entries(rows: Iterable[Mapping[str, str]], certificates: Mapping[str, bytes]) -> tuple[InventoryEntry, ...]:
    entries: list[InventoryEntry] = []
    unique = _Unique()
    for number, row in enumerate(rows, 1):
        if number > limits.MAX_INVENTORY_ROWS:
            raise ChangeRefused("inventory-malformed", f"more than {limits.MAX_INVENTORY_ROWS} rows", row=number)
        column, device_id = _identity(row, number, certificates)
        entry = _entry(device_id, row, number)
        unique.add(entry, number, column)
        entries.append(entry)
    return tuple(sorted(entries, key=lambda entry: entry.device_id))


def _identity(row: Mapping[str, str], number: int, certificates: Mapping[str, bytes]) -> tuple[str, str]:
    """Return the column that says which device it is, and the device's id."""
    given = [column for column in IDENTITIES if row.get(column)]
    if len(given) != 1:
        raise ChangeRefused("inventory-malformed", f"give exactly one of {', '.join(IDENTITIES)}", row=number)
    column = given[0]
    cell = row[column]
    if len(cell) > _MAX_CELL:
        raise ChangeRefused("inventory-malformed", "too long", row=number, column=column)
    try:
        if column == "device_id":
            return column, names.parse_device_id(cell)
        if column == "ek_public_sha256":
            return column, _of_digest(cell)
        return column, names.device_id(
            canonical_spki(parse_certificate(unwrap(certificates.get(cell, cell.encode("utf-8", "replace")))))
        )
    except PkiError as error:
        raise ChangeRefused("inventory-malformed", error.message, row=number, column=column) from error


def _of_digest(cell: str) -> str:
    if not _SHA256.fullmatch(cell):
        raise PkiError("device-digest-size", "not 64 hexadecimal digits")
    return names.device_id_of_digest(bytes.fromhex(cell))


# --- One entry ------------------------------------------------------------------------------------------------------------


def _entry(device_id: str, row: Mapping[str, str], number: int) -> InventoryEntry:
    labels = {column: _label(row[column], number, column) for column in REQUIRED}
    note = row.get("note", "")
    if len(note) > bounds.MAX_NOTE or not note.isprintable():
        raise ChangeRefused(
            "inventory-malformed",
            f"more than {bounds.MAX_NOTE} characters, or not printable",
            row=number,
            column="note",
        )
    return InventoryEntry(device_id, labels["name"], labels["site"], labels["profile"], note)


def _label(text: str, row: int, column: str) -> str:
    try:
        return names.parse_label(text)
    except PkiError as error:
        raise ChangeRefused("inventory-malformed", error.message, row=row, column=column) from error


class _Unique:
    """The devices and names of one file or document so far, each with its row."""

    def __init__(self) -> None:
        self._devices: dict[str, int] = {}
        self._names: dict[str, int] = {}

    def add(self, entry: InventoryEntry, row: int, column: str) -> None:
        """Note an entry. *Raises* ChangeRefused `inventory-duplicate` naming both rows."""
        for seen, key, where in ((self._devices, entry.device_id, column), (self._names, entry.name, "name")):
            if key in seen:
                raise ChangeRefused("inventory-duplicate", f"as in row {seen[key]}", row=row, column=where)
            seen[key] = row


# --- The document ---------------------------------------------------------------------------------------------------------


def inventory_document(add: Iterable[InventoryEntry] = (), withdraw: Iterable[str] = ()) -> bytes:
    """Return the canonical document of one change. *Raises* ChangeRefused as `read_inventory`."""
    added = [
        {
            "device_id": entry.device_id,
            "name": entry.name,
            "site": entry.site,
            "profile": entry.profile,
            "note": entry.note,
        }
        for entry in sorted(add, key=lambda entry: entry.device_id)
    ]
    body = canonical.write({"add": added, "withdraw": sorted(withdraw)})
    read_inventory(body)
    return body


def read_inventory(body: bytes) -> Inventory:
    """Return what a canonical inventory document says.

    *Raises* ChangeRefused `change-malformed`, `inventory-malformed`, `inventory-duplicate`; rows count within the document.
    """
    document = canonical.read(body)
    if set(document) != {"add", "withdraw"} or not all(type(part) is list for part in document.values()):
        raise ChangeRefused("inventory-malformed", "the document is not made of the lists add and withdraw")
    if not 0 < len(document["add"]) + len(document["withdraw"]) <= limits.MAX_INVENTORY_ROWS:
        raise ChangeRefused("inventory-malformed", f"no row, or more than {limits.MAX_INVENTORY_ROWS}")
    unique = _Unique()
    added = tuple(_document_entry(item, number, unique) for number, item in enumerate(document["add"], 1))
    withdrawn = tuple(_document_id(item, number) for number, item in enumerate(document["withdraw"], 1))
    ids = [entry.device_id for entry in added]
    _require_rising(ids, "add")
    _require_rising(withdrawn, "withdraw")
    if both := set(ids) & set(withdrawn):
        raise ChangeRefused("inventory-duplicate", f"{min(both)} is added and withdrawn at once")
    return Inventory(added, withdrawn)


def _document_entry(item: object, number: int, unique: _Unique) -> InventoryEntry:
    if type(item) is not dict or set(item) != {"device_id", *REQUIRED, "note"}:
        raise ChangeRefused("inventory-malformed", "missing or unknown keys", row=number)
    row = _json_row(item, number)
    entry = _entry(_document_id(row["device_id"], number), row, number)
    unique.add(entry, number, "device_id")
    return entry


def _document_id(item: object, number: int) -> str:
    try:
        return names.parse_device_id(item if type(item) is str else "")
    except PkiError as error:
        raise ChangeRefused("inventory-malformed", error.message, row=number, column="device_id") from error


def _require_rising(ids: Sequence[str], part: str) -> None:
    # One inventory, one document: the order is part of the canonical form.
    if any(first >= second for first, second in pairwise(ids)):
        raise ChangeRefused("inventory-malformed", f"the ids of {part} are not sorted, or one is there twice")


Reader = Callable[..., tuple[InventoryEntry, ...]]
READERS: Final[Mapping[str, Reader]] = {"csv": parse_csv, "json": parse_json}
"""The parsers by the ending of the file's name."""
