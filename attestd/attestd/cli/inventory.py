"""`attestd inventory` and `attestd rules`: which devices may come in. Every change is signed by operators."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attestd.cli import decision
from attestd.cli.answer import answer, show_line, show_table
from attestd.cli.failures import CommandFailed
from attestd.cli.options import Directory, Json, Key
from attestd.cli.session import verifier_at

if TYPE_CHECKING:
    from attestd.changes.book import PolicyBook
    from attestd.changes.inventory import InventoryEntry

commands = typer.Typer(no_args_is_help=True, help="The devices that the owner has announced: import, list, withdraw.")
rules = typer.Typer(no_args_is_help=True, help="What becomes of a device that nobody announced: import, show.")

File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The file to read.", show_default=False)]


def book_at(directory: Path | None) -> "PolicyBook":
    """Return the policy book of a directory, verified from its signatures. *Raises* Refused (policy-unapproved)."""
    with verifier_at(directory) as verifier, verifier.store.read() as connection:
        return verifier.policy.book(connection)


@commands.command("import")
def import_(
    file: File,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; change nothing.")] = False,
    key: Key = None,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Add or replace entries from CSV or JSON: name, site, profile; one of ek_public_sha256, device_id, ek_certificate; note."""
    from attestd.changes.inventory import inventory_document

    entries = _read(file)
    if dry_run:
        _preview(entries, book_at(directory), as_json=as_json)
        return
    count = f"{len(entries)} device{'s' if len(entries) != 1 else ''}"
    body = inventory_document(entries)
    decision.make(directory, "inventory", "inventory", body=body, key=key, as_json=as_json, said=f"Announced {count}")


def _read(file: Path) -> "tuple[InventoryEntry, ...]":
    from attestd.changes.inventory import READERS

    read = READERS.get(file.suffix.removeprefix(".").lower())
    if read is None:
        raise CommandFailed("inventory-malformed", f"{file.name}: the name must end in .csv or .json")
    text = file.read_text(encoding="utf-8", errors="replace")
    return read(text, certificates=_certificates(file.parent, text))


def _certificates(place: Path, text: str) -> Mapping[str, bytes]:
    """Return the certificate files that stand beside the inventory, by the names that may be in it."""
    from attestd.changes import bounds

    if "ek_certificate" not in text:
        return {}
    names = [path for path in place.rglob("*") if path.suffix in (".pem", ".crt", ".cer", ".der") and path.is_file()]
    return {str(path.relative_to(place)): path.read_bytes()[: bounds.MAX_SIGNATURE * 4] for path in names}


def _preview(entries: "tuple[InventoryEntry, ...]", book: "PolicyBook", *, as_json: bool) -> None:
    rows, unknown = [], []
    for entry in entries:
        known = book.entry(entry.device_id)
        effect = "add" if known is None else "keep" if known == entry else "replace"
        rows.append((effect, entry.name, entry.site, entry.profile, entry.device_id))
        if not book.active(entry.profile):
            unknown.append(entry.profile)
    columns = ("effect", "name", "site", "profile", "device_id")
    document = {
        "entries": [dict(zip(columns, row, strict=True)) for row in rows],
        "profiles_without_active_version": sorted(set(unknown)),
    }

    def show(console: Any) -> None:
        show_table(console, columns, rows, empty="The file has no device.")
        for profile in sorted(set(unknown)):
            show_line(
                console, f"No version of profile {profile} is active: its devices will be refused.", style="yellow"
            )

    answer(document, show, as_json=as_json)


@commands.command("list")
def list_(directory: Directory = None, as_json: Json = False) -> None:
    """List the announced and the withdrawn devices."""
    book = book_at(directory)
    columns = ("name", "site", "profile", "device_id", "note")
    rows = [
        (entry.name, entry.site, entry.profile, entry.device_id, entry.note)
        for entry in sorted(book.entries.values(), key=lambda entry: entry.name)
    ]
    document = {
        "entries": [dict(zip(columns, row, strict=True)) for row in rows],
        "withdrawn": sorted(book.withdrawn),
        "change": book.sequence,
    }
    answer(
        document,
        lambda console: show_table(console, columns, rows, empty="No device is announced: attestd inventory import."),
        as_json=as_json,
    )


@commands.command("withdraw")
def withdraw(
    devices: Annotated[list[str], typer.Argument(help="Names or whole device ids.", show_default=False)],
    key: Key = None,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Withdraw devices: what they hold is revoked, and no rule lets them in again."""
    from attestd.changes.inventory import inventory_document

    book = book_at(directory)
    ids = [_device_id(book, device) for device in devices]
    said = f"Withdrew {len(ids)} device{'s' if len(ids) != 1 else ''}"
    body = inventory_document((), ids)
    decision.make(directory, "inventory", "inventory", body=body, key=key, as_json=as_json, said=said)


def _device_id(book: "PolicyBook", wanted: str) -> str:
    from attestd_pki.errors import PkiError
    from attestd_pki.names import parse_device_id

    if wanted in book.names:
        return book.names[wanted]
    try:
        return parse_device_id(wanted)
    except PkiError:
        raise CommandFailed(
            "device-unknown", f"{wanted} is no announced name and no whole device id: attestd inventory list"
        ) from None


@rules.command("import")
def import_rules(file: File, key: Key = None, directory: Directory = None, as_json: Json = False) -> None:
    """Replace all rules by a JSON list of {"manufacturer": "IFX", "model": "*", "profile": "edge"}; profile null asks a person."""
    import json

    from attestd.changes import canonical
    from attestd.changes.rules import SUBJECT, read_rules

    try:
        listed = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise CommandFailed("rules-malformed", f"{file} is not JSON") from None
    body = canonical.write(listed if isinstance(listed, dict) else {"rules": listed})
    count = len(read_rules(body))
    said = f"Set {count} rule{'s' if count != 1 else ''}"
    decision.make(directory, "rules", SUBJECT, body=body, key=key, as_json=as_json, said=said)


@rules.command("show")
def show_rules(directory: Directory = None, as_json: Json = False) -> None:
    """Show the rules in their order: the first that matches decides; none means that a person does."""
    book = book_at(directory)
    columns = ("rule", "manufacturer", "model", "profile")
    rows = [
        (number, rule.manufacturer, rule.model, rule.profile or "a person decides")
        for number, rule in enumerate(book.rules, 1)
    ]
    document = {
        "rules": [
            {"manufacturer": rule.manufacturer, "model": rule.model, "profile": rule.profile} for rule in book.rules
        ]
    }
    empty = "There is no rule: a person decides about every device that is not announced."
    answer(document, lambda console: show_table(console, columns, rows, empty=empty), as_json=as_json)
