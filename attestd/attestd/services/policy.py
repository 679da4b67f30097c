"""Where policy comes from: the chain of approved changes, folded once and kept up to date.

The database is not believed. Every change is verified (place in the chain, approvals by enough operators) before it counts,
and a process never goes back: a chain shorter than one it has seen means that somebody restored or deleted something, and
then nothing is trusted until a person looks (attack P02). Memory only ever holds what was verified.
"""

import threading
from collections.abc import Callable
from typing import cast

from attestd.appraisal.document import ProfileError
from attestd.appraisal.policy import Profile
from attestd.appraisal.profile import load_profile
from attestd.changes.book import PolicyBook, empty_book, verify_chain
from attestd.changes.errors import ChangeRefused
from attestd.changes.operators import Operators
from attestd.changes.statement import Change, Kind
from attestd.errors import Refused
from attestd.protocol.reasons import Reason
from attestd.store import Connection, changes
from attestd.store.changes import ChangeRecord
from attestd.store.routine import policy_head


def change_of(record: ChangeRecord) -> Change:
    """Return the change that a row claims to be. *Raises* ChangeRefused for a row without the form of one."""
    return Change(
        sequence=record.sequence,
        kind=cast(Kind, record.kind),
        subject=record.subject,
        body=record.body,
        previous=record.previous,
        proposed_by=record.proposed_by,
        proposed_at=record.proposed_at,
    )


class PolicySource:
    """The current policy book of one verifier. Safe to use from several threads."""

    def __init__(self, operators: Operators, *, fleet: str, now: Callable[[], int]) -> None:
        """Believe these operators about the fleet (its trust domain), and nothing yet. `now` is in milliseconds."""
        self._operators = operators
        self._now = now
        self._running = False
        self._book = empty_book(fleet)
        self._profiles: dict[bytes, Profile] = {}
        self._lock = threading.Lock()

    def book(self, connection: Connection, head: int | None = None) -> PolicyBook:
        """Return the book at the chain's head, as `connection` sees it.

        `head` is the sequence of the last applied change where the caller has just read it. Raises `Refused`
        (policy-unapproved) when the chain does not verify or goes back. A reading transaction that began before a change
        which another thread has learnt of meanwhile looks as if the chain went back: look again in a new one.
        """
        with self._lock:
            # Read under the lock, so that no other thread learns of a newer change between the look and the comparison.
            head = policy_head(connection) if head is None else head
            if head > self._book.sequence:
                self._advance(connection)
            self._running = True
            if head < self._book.sequence:
                raise Refused(Reason.POLICY_UNAPPROVED, f"the chain ends at {head}, {self._book.sequence} was seen")
            return self._book

    def profiles(self, book: PolicyBook, name: str) -> tuple[Profile, ...]:
        """Return the active versions of a profile, newest first; none for a name that nobody activated."""
        return tuple(self._load(version.document, version.digest) for version in reversed(book.active(name)))

    def staged(self, book: PolicyBook, name: str) -> tuple[Profile, ...]:
        """Return the staged versions of a profile that can be read, newest first. They judge no device.

        One that cannot be read is left out: whoever staged it sees that it says nothing, and no device is harmed by it.
        """
        found = []
        for version in reversed(book.staged(name)):
            try:
                found.append(self._load(version.document, version.digest))
            except Refused:
                continue
        return tuple(found)

    def version(self, book: PolicyBook, digest: bytes) -> Profile | None:
        """Return the version with this digest, whatever its standing; None where no change has named it or nobody can read it."""
        for state in book.profiles.values():
            for _, version in state.versions():
                if version.digest == digest:
                    try:
                        return self._load(version.document, version.digest)
                    except Refused:
                        return None
        return None

    def _advance(self, connection: Connection) -> None:
        try:
            # What is learnt while running was applied just now: keys that have ended since do not count for it.
            operators = self._operators.valid_at(self._now()) if self._running else self._operators
            while kept := changes.load_changes(connection, self._book.sequence):
                told = [(change_of(record), record.signatures) for record in kept]
                self._book = verify_chain(told, operators, book=self._book)
        except ChangeRefused as error:
            raise Refused(Reason.POLICY_UNAPPROVED, f"{error.code}: {error}") from None

    def _load(self, document: bytes, digest: bytes) -> Profile:
        profile = self._profiles.get(digest)
        if profile is None:
            try:
                profile = load_profile(document)
            except ProfileError as error:
                raise Refused(Reason.POLICY_MISSING, str(error)) from None
            self._profiles[digest] = profile
        return profile
