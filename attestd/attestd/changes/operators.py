"""Who may approve changes, and whether enough of them did.

Proves, of the principals that `verify_approvals` returns, that each signed exactly this change, that they are different
people as far as the list of operators says, and that they are enough. Assumes that the list comes from the verifier's own
configuration and never from the database. Does not judge the change.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NoReturn

from attestd.changes import bounds, signature
from attestd.changes.errors import ChangeRefused
from attestd.changes.statement import NAMESPACE, Change, statement

_PRINCIPAL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9@.+_-]{0,126}[A-Za-z0-9])?")
_OPTION: Final = re.compile(r'(namespaces|valid-after|valid-before)="([^"]*)"(?:,|$)')
_TIMES: Final = {9: "%Y%m%dZ", 13: "%Y%m%d%H%MZ", 15: "%Y%m%d%H%M%SZ"}


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """One key of one operator, in SSH's encoding; times in milliseconds, the first included, the second not."""

    principal: str
    key: bytes
    valid_after: int | None = None
    valid_before: int | None = None

    def valid(self, at: int) -> bool:
        """Return whether the key may approve a change that was proposed at `at`."""
        return (self.valid_after or 0) <= at and (self.valid_before is None or at < self.valid_before)


@dataclass(frozen=True, slots=True)
class Operators:
    """All operators, and how many of them a change needs. *Raises* ChangeRefused `operators-malformed`.

    A key belongs to one operator: two names for one key would let one person count as two.
    """

    threshold: int
    keys: tuple[OperatorKey, ...]

    def __post_init__(self) -> None:
        if len({entry.key for entry in self.keys}) != len(self.keys):
            raise ChangeRefused("operators-malformed", "a key is listed twice")
        if not 1 <= self.threshold <= len(self.principals):
            raise ChangeRefused("operators-malformed", "the threshold is not between 1 and the number of operators")

    @property
    def principals(self) -> tuple[str, ...]:
        """Return the operators' names, sorted, each once."""
        return tuple(sorted({entry.principal for entry in self.keys}))

    def valid_at(self, at: int) -> "Operators":
        """Return the operators whose keys are good at `at` (milliseconds). *Raises* ChangeRefused when they are too few.

        A change names its own time, so whoever accepts one *now* holds it against the keys that are good now: somebody who
        left cannot approve what claims to have been proposed before.
        """
        return Operators(self.threshold, tuple(entry for entry in self.keys if entry.valid(at)))

    def find(self, key: bytes) -> OperatorKey | None:
        """Return the entry of a key in SSH's encoding, or None."""
        return next((entry for entry in self.keys if entry.key == key), None)


def parse_operators(text: str, *, threshold: int) -> Operators:
    """Return the operators of a list in OpenSSH's allowed_signers format (ssh-keygen(1), ALLOWED SIGNERS).

    Of that format: one plain principal a line (no pattern, no list), the options `namespaces`, `valid-after` and
    `valid-before` (times with Z), no certificate authorities. Lines for other namespaces are passed over. An operator
    who left keeps the line with `valid-before`, so that what was approved before stays approved.
    *Raises* ChangeRefused `operators-malformed` with the line's number.
    """
    lines = text.splitlines()
    if len(lines) > bounds.MAX_OPERATOR_LINES:
        raise ChangeRefused("operators-malformed", f"more than {bounds.MAX_OPERATOR_LINES} lines")
    entries = (_entry(line.strip(), number) for number, line in enumerate(lines, 1))
    return Operators(threshold, tuple(entry for entry in entries if entry is not None))


def verify_approvals(change: Change, signatures: Sequence[str], operators: Operators) -> tuple[str, ...]:
    """Return the names of the operators who approved the change, sorted, at least `operators.threshold` of them.

    An operator counts once, with however many keys and signatures, the proposer's own included. *Raises* ChangeRefused:
    `approval-invalid` (not a signature of this change: also one that was made for another), `approval-unknown-operator`
    (also a key outside its validity), `approval-duplicate` (enough signatures, of too few people),
    `approval-threshold` (too few). One bad signature refuses all: nobody honest adds one.
    """
    if len(signatures) > bounds.MAX_SIGNATURES:
        raise ChangeRefused("approval-invalid", f"more than {bounds.MAX_SIGNATURES} signatures")
    message = statement(change)
    names = [_approver(change, message, armored, operators) for armored in signatures]
    approvers = tuple(sorted(set(names)))
    if len(approvers) >= operators.threshold:
        return approvers
    if len(names) >= operators.threshold:
        raise ChangeRefused("approval-duplicate", f"{len(names)} signatures of {len(approvers)} operators")
    raise ChangeRefused("approval-threshold", f"{len(approvers)} of {operators.threshold} operators have signed")


def verify_approval(change: Change, armored: str, operators: Operators) -> str:
    """Return who made this one approval, before it is stored. *Raises* as `verify_approvals`, without a threshold."""
    return _approver(change, statement(change), armored, operators)


def sign_change(change: Change, private_key_openssh_pem: bytes) -> str:
    """Return the armored approval of an Ed25519 file key: the default of a development set-up.

    The same as `ssh-keygen -Y sign -n attestd-change` over `statement(change)`. *Raises* ValueError.
    """
    return signature.sign(statement(change), private_key_openssh_pem, NAMESPACE)


def _approver(change: Change, message: bytes, armored: str, operators: Operators) -> str:
    # Whose key it claims to be comes first: a stranger's key costs no public-key operation.
    entry = operators.find(signature.claimed_key(armored))
    if entry is None:
        raise ChangeRefused("approval-unknown-operator", "the signature's key is no operator's")
    signature.verify(armored, message, NAMESPACE)
    if not entry.valid(change.proposed_at):
        raise ChangeRefused("approval-unknown-operator", f"the key of {entry.principal} was not valid at that time")
    return entry.principal


# --- The list ---------------------------------------------------------------------------------------------------------


def _entry(line: str, number: int) -> OperatorKey | None:
    if not line or line.startswith("#"):
        return None
    principal, _, rest = line.partition(" ")
    if not _PRINCIPAL.fullmatch(principal):
        _refuse(number, "a line starts with one operator's name, without patterns and quotes")
    options, rest = _options(rest.strip(), number)
    kind, _, rest = rest.partition(" ")
    encoded = rest.split(maxsplit=1)[0] if rest.split() else ""
    try:
        key = base64.b64decode(encoded, validate=True)
        if signature.check_key(key) != kind:
            _refuse(number, "the key is of another type than the line says")
    except (binascii.Error, ValueError) as error:
        raise ChangeRefused("operators-malformed", f"line {number}: {error}") from error
    if "namespaces" in options and NAMESPACE not in options["namespaces"].split(","):
        return None
    after, before = (_time(options.get(name), number) for name in ("valid-after", "valid-before"))
    return OperatorKey(principal, key, after, before)


def _options(rest: str, number: int) -> tuple[dict[str, str], str]:
    """Split the options from what follows them."""
    first = rest.split(maxsplit=1)[0] if rest else ""
    if "=" not in first and first != "cert-authority":
        return {}, rest
    options: dict[str, str] = {}
    position, end = 0, _end_of_options(rest)
    while position < end:
        found = _OPTION.match(rest, position, end)
        if found is None or found[1] in options:
            _refuse(number, "the options are namespaces, valid-after and valid-before, each once, in quotes")
        options[found[1]] = found[2]
        position = found.end()
    return options, rest[end:].strip()


def _end_of_options(rest: str) -> int:
    """Return where the first space outside quotes is."""
    quoted = False
    for position, character in enumerate(rest):
        if character == '"':
            quoted = not quoted
        elif character == " " and not quoted:
            return position
    return len(rest)


def _time(text: str | None, number: int) -> int | None:
    """Return milliseconds. Without Z the format means local time, which this room does not know."""
    if text is None:
        return None
    try:
        return int(datetime.strptime(text, _TIMES[len(text)]).replace(tzinfo=UTC).timestamp()) * 1000
    except (KeyError, ValueError) as error:
        raise ChangeRefused("operators-malformed", f"line {number}: a time is YYYYMMDD[HHMM[SS]]Z") from error


def _refuse(number: int, message: str) -> NoReturn:
    raise ChangeRefused("operators-malformed", f"line {number}: {message}")
