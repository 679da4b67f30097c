"""One change, and the text that operators sign.

Proves, of a `Change`, that every field has its form, so that the text can be read line by line and no field can pretend to
be two. The text holds the digest of the document, never the document: whoever signs looks at the document itself, and
signs that digest. Assumes nothing. Does not prove that anybody approved it.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, get_args

from attestd.changes import bounds
from attestd.changes.errors import ChangeRefused

NAMESPACE: Final = "attestd-change"
"""The namespace of the signatures: `ssh-keygen -Y sign -n attestd-change`."""

Kind = Literal["inventory", "profile-activate", "profile-retire", "profile-stage", "rules"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_SUBJECT: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_PROPOSER: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9@.+_-]{0,126}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Change:
    """One change. Constructing it checks its form. *Raises* ChangeRefused `change-malformed`.

    `sequence` counts from 1. `previous` is `digest` of the change before; of the first change it is the fleet's origin
    (`book.empty_book`). `body` is the canonical document, `proposed_at` in milliseconds since the epoch. `proposed_by` says who
    claims to have proposed it; what counts is who signed.
    """

    sequence: int
    kind: Kind
    subject: str
    body: bytes
    previous: bytes
    proposed_by: str
    proposed_at: int

    def __post_init__(self) -> None:
        for field, holds in (
            ("sequence", type(self.sequence) is int and 1 <= self.sequence <= bounds.MAX_SEQUENCE),
            ("kind", self.kind in KINDS),
            ("subject", type(self.subject) is str and _SUBJECT.fullmatch(self.subject)),
            ("body", type(self.body) is bytes and 0 < len(self.body) <= bounds.MAX_BODY),
            ("previous", type(self.previous) is bytes and len(self.previous) == 32),
            ("proposed_by", type(self.proposed_by) is str and _PROPOSER.fullmatch(self.proposed_by)),
            ("proposed_at", type(self.proposed_at) is int and 0 <= self.proposed_at <= bounds.MAX_TIME),
        ):
            if not holds:
                raise ChangeRefused("change-malformed", f"{field} of a change does not have its form")


def statement(change: Change) -> bytes:
    """Return the text that operators sign: eight lines of ASCII, each ended by a newline.

    >>> print(statement(Change(1, "rules", "rules", b"{}", bytes(32), "alice", 0)).decode(), end="")
    attestd change v1
    sequence: 1
    kind: rules
    subject: rules
    sha256: 44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a
    previous: 0000000000000000000000000000000000000000000000000000000000000000
    proposed-by: alice
    proposed-at: 1970-01-01T00:00:00.000Z
    """
    instant = datetime.fromtimestamp(change.proposed_at // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    lines = (
        "attestd change v1",
        f"sequence: {change.sequence}",
        f"kind: {change.kind}",
        f"subject: {change.subject}",
        f"sha256: {hashlib.sha256(change.body).hexdigest()}",
        f"previous: {change.previous.hex()}",
        f"proposed-by: {change.proposed_by}",
        f"proposed-at: {instant}.{change.proposed_at % 1000:03}Z",
        "",
    )
    return "\n".join(lines).encode("ascii")


def digest(change: Change) -> bytes:
    """Return SHA-256 of the statement: what the next change names as its `previous`."""
    return hashlib.sha256(statement(change)).digest()
