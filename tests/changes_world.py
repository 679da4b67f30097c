"""Operators with keys, and changes they approve: for tests of everything that policy and inventory go through."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from attestd.changes import canonical
from attestd.changes.book import PolicyBook, empty_book
from attestd.changes.inventory import InventoryEntry, inventory_document
from attestd.changes.operators import Operators, parse_operators, sign_change
from attestd.changes.statement import Change, Kind
from attestd_pki.names import device_id

FLEET = "fleet.example"


@dataclass(frozen=True)
class Person:
    """An operator (or somebody who is none) with an Ed25519 key."""

    name: str
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def pem(self) -> bytes:
        """The private key in OpenSSH's format."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())

    @property
    def public(self) -> str:
        """The public key as one line of OpenSSH."""
        return self.key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    def sign(self, change: Change) -> str:
        """Approve a change."""
        return sign_change(change, self.pem)


def allowed(*people: Person, options: str = "") -> str:
    """Return a list of operators in OpenSSH's format."""
    return "".join(f"{person.name} {options + ' ' if options else ''}{person.public}\n" for person in people)


def operators(*people: Person, threshold: int) -> Operators:
    """Return these operators."""
    return parse_operators(allowed(*people), threshold=threshold)


def device(number: int) -> str:
    """Return the id of the device with this number."""
    return device_id(b"endorsement key %d" % number)


def entry(number: int, *, name: str = "", profile: str = "edge") -> InventoryEntry:
    """Return an inventory entry."""
    return InventoryEntry(device(number), name or f"edge-{number}", "berlin", profile)


def change_on(book: PolicyBook, kind: Kind, subject: str, body: bytes, *, proposed_at: int = 0) -> Change:
    """Return the next change on a book."""
    at = max(proposed_at, book.changed_at)
    return Change(book.sequence + 1, kind, subject, body, book.digest, "alice", at)


def inventory_on(book: PolicyBook, *add: InventoryEntry, withdraw: Sequence[str] = ()) -> Change:
    """Return an inventory change on a book."""
    return change_on(book, "inventory", "inventory", inventory_document(add, withdraw))


def profile_document(name: str, version: int, **more: object) -> bytes:
    """Return a profile's canonical document; for this room it is opaque but for these two keys."""
    return canonical.write({"profile": name, "version": version, **more})


def activate_on(book: PolicyBook, name: str, version: int) -> Change:
    """Return the change that activates a version of a profile."""
    return change_on(book, "profile-activate", name, profile_document(name, version))


def stage_on(book: PolicyBook, name: str, version: int, **more: object) -> Change:
    """Return the change that stages a version of a profile."""
    return change_on(book, "profile-stage", name, profile_document(name, version, **more))


def retire_on(book: PolicyBook, name: str, *versions: int) -> Change:
    """Return the change that retires versions of a profile."""
    document = canonical.write({"profile": name, "versions": list(versions)})
    return change_on(book, "profile-retire", name, document)


EMPTY = empty_book(FLEET)
