"""The one exception of this room: a stable code for machines, a sentence for people.

Proves nothing. Whoever raises it has changed nothing: books and changes are values.
"""

from typing import Literal

ChangeCode = Literal[
    # the change itself
    "change-malformed",
    "change-sequence",
    "change-chain",
    "change-time",
    # approvals
    "operators-malformed",
    "approval-invalid",
    "approval-unknown-operator",
    "approval-duplicate",
    "approval-threshold",
    # what it says
    "inventory-malformed",
    "inventory-duplicate",
    "profile-malformed",
    "policy-rollback",
    "policy-staged",
    "policy-unknown",
    "rules-malformed",
]


class ChangeRefused(Exception):
    """A change, an approval or a document that is not accepted.

    `row` and `column` name the place in an inventory file (the first row of data is 1); None where there is no such place.
    """

    def __init__(self, code: ChangeCode, message: str, *, row: int | None = None, column: str | None = None) -> None:
        """Put the place before the sentence."""
        place = ", ".join(filter(None, (f"row {row}" if row is not None else "", f"column {column}" if column else "")))
        super().__init__(f"{place}: {message}" if place else message)
        self.code: ChangeCode = code
        self.row = row
        self.column = column
