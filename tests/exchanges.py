"""Attacks on a whole verifier: both exchanges under one interface, and what "refused" has to mean.

`Enrolment` and `Attestation` let a test bend one field of a proof and leave the rest honest. `refused` holds the rule for all
attacks: the reason code is the expected one, nothing that the verifier believes or has issued differs from before, the
refusal is recorded exactly where the caller had proved its TPM, and the answer holds no expected value.
"""

import base64
import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import pytest

from attestd.api import application
from attestd.protocol import codec
from attestd.protocol.binding import Purpose
from attestd.protocol.messages import Attested, Enrolled, EnrolProof
from attestd.protocol.reasons import PROBLEM_TYPE_PREFIX, PROBLEMS, Reason
from attestd.services.context import Verifier
from attestd.services.sweep import expire_silent
from softchip import SoftChip
from world import Problem, World, sqlite_world

TABLES = (
    "device",
    "device_state",
    "device_evidence",
    "attestation",
    "transition",
    "event_log",
    "change",
    '"grant"',
    "certificate",
    "vpn_credential",
    "vpn_address",
    "crl",
    "token",
)
"""Everything that is believed or was issued; the one table that is not here is that of refusals."""

RECORDED = frozenset(
    {
        Reason.PCR_VALUES_MALFORMED,
        Reason.QUOTE_PCR_DIGEST,
        Reason.PCR_BANK_INACTIVE,
        Reason.TPM_CLOCK_BACKWARDS,
        Reason.TPM_DIVERGED,
        Reason.TPM_RESET_BACKWARDS,
        Reason.TPM_RESET_UNANNOUNCED,
        Reason.TPM_FIRMWARE_CHANGED,
        Reason.LOG_MALFORMED,
    }
)
"""What an attestation is refused for after the device's own key was seen to sign over a fresh nonce: a person must see these."""

_MEMBERS = frozenset({"type", "title", "status", "code", "advice", "nonce", "findings"})
_FINDING = frozenset({"code", "claim", "component", "expected", "pcr", "event"})
_DIGEST = re.compile(r"[0-9a-fA-F]{20,}|[A-Za-z0-9+/_-]{40,}")


SWEEP: Final = threading.RLock()
"""Held while an attack is observed; whoever holds it may hold it again."""


def expire_between_attacks(verifier: Verifier) -> tuple[str, ...]:
    """Do what the verifier's sweep does, but never while an attack is being observed: a neighbour's silence is no change by it."""
    with SWEEP:
        return expire_silent(verifier)


def snapshot(world: World) -> dict[str, list[Any]]:
    """Return every row of every table in TABLES."""
    with world.verifier.store.read() as connection:
        cursor = connection.connection.cursor()  # the driver's own: plain tuples, which compare fast
        return {table: list(cursor.execute(f"SELECT * FROM {table}").fetchall()) for table in TABLES}


@contextmanager
def nothing_changes(world: World) -> Iterator[None]:
    """Hold that what is done in this block changes no row. *Raises* AssertionError naming the tables."""
    with SWEEP:
        before = snapshot(world)
        yield
        after = snapshot(world)
    assert [table for table in TABLES if after[table] != before[table]] == []


@contextmanager
def verifier_in_memory(**fields: Any) -> Iterator[World]:
    """Serve a verifier whose database is a file in memory where the machine has such a place: nothing here asks for durability.

    Its sweep goes on, but between attacks.
    """
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="attestd-attacks-", dir=place) as directory,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(application, "expire_silent", expire_between_attacks)
        with sqlite_world(Path(directory), **fields) as made:
            yield made
            made.verifier.store.close()


def refusals(world: World, device_id: str | None = None) -> list[str]:
    """Return the codes of the refusals that were recorded, of one device or of all, in their order."""
    with world.verifier.store.read() as connection:
        rows = connection.exec_driver_sql("SELECT device_id, code FROM refusal ORDER BY id").all()
    return [str(row[1]) for row in rows if device_id in (None, row[0])]


def holds_no_expected_value(document: dict[str, Any]) -> bool:
    """Say whether a problem document says what the table of reasons says, and nothing that helps to forge a proof."""
    known = PROBLEMS[Reason(document["code"])]
    fixed = (document["type"], document["title"], document["status"], document["advice"])
    if fixed != (PROBLEM_TYPE_PREFIX + document["code"], known.title, known.status, known.advice):
        return False
    told = [{name: value for name, value in one.items() if name != "component"} for one in document.get("findings", ())]
    # What is wrong with a message's form is told: that is public, and no verdict on anything.
    members = _MEMBERS | ({"detail"} if document["code"] == Reason.MESSAGE_MALFORMED else frozenset())
    return (
        set(document) <= members
        and all(set(one) <= _FINDING for one in document.get("findings", ()))
        and not _DIGEST.search(json.dumps([told, document.get("detail", "")]))
    )


def refused(
    world: World, call: Callable[[], object], reason: Reason, *, recorded: str | None = None, changes: bool = False
) -> Problem:
    """Make a call, hold the rule for all attacks against its refusal, and return that.

    `recorded` is the id of the device that had proved its TPM: one refusal must be recorded under it now; without it, none.
    `changes` says that this refusal is an appraisal's verdict: the proof was accepted as evidence and ended trust.
    """
    world.verifier.refusals._items.clear()  # else the second refusal of a kind within ten seconds is not recorded
    with SWEEP:
        before, told = snapshot(world), refusals(world)
        found = _problem(call)
        after, added = snapshot(world), refusals(world)[len(told) :]
    assert found.code == reason.value
    assert changes or [table for table in TABLES if after[table] != before[table]] == []
    assert added == ([reason.value] if recorded is not None else [])
    assert recorded is None or refusals(world, recorded)[-1:] == [reason.value]
    assert holds_no_expected_value(found.document), found.document
    return found


def _problem(call: Callable[[], object]) -> Problem:
    try:
        answer = call()
    except Problem as problem:
        return problem
    raise AssertionError(f"not refused: {answer!r}"[:300])


def nonce_in(problem: Problem) -> bytes:
    """Return the nonce that a problem document offers for another try."""
    told = str(problem.document["nonce"])
    return base64.urlsafe_b64decode(told + "=" * (-len(told) % 4))


class Exchange(Protocol):
    """One run of the protocol up to the proof. `send` sends it, with fields changed; `bound` is its qualifying data."""

    chip: SoftChip
    nonce: bytes
    purpose: Purpose

    def bound(self, **changes: Any) -> bytes: ...

    def send(self, **changes: Any) -> Any: ...

    def refuse(self, reason: Reason, **changes: Any) -> Problem: ...


@dataclass
class Enrolment:
    """An enrolment whose challenge has come."""

    world: World
    chip: SoftChip
    purpose: Purpose = Purpose.ENROL_QUOTE

    def __post_init__(self) -> None:
        self.body = codec.encode(self.chip.request(), codec.CBOR)
        self.challenge = self.world.begin(self.body)
        self.nonce = self.challenge.challenges[0].nonce

    def bound(self, **changes: Any) -> bytes:
        """Return the qualifying data of the quote, honest unless changed."""
        fields = {"purpose": self.purpose, "nonces": (self.nonce,), **changes}
        return self.chip.bound(fields.pop("purpose"), fields.pop("nonces"), **fields)

    def certify_bound(self, **changes: Any) -> bytes:
        """Return the qualifying data of the certification, honest unless changed."""
        return self.bound(**{"purpose": Purpose.ENROL_CERTIFY, **changes})

    def proof(self, **changes: Any) -> EnrolProof:
        """Return the second message, honest unless changed."""
        return replace(self.chip.proof(self.body, self.challenge), **changes)

    def send(self, **changes: Any) -> Enrolled:
        """Send the second message."""
        return self.world.prove(self.proof(**changes))

    def refuse(self, reason: Reason, **changes: Any) -> Problem:
        """Send it and hold the rule: after its activation a TPM is known, and what it is refused for is recorded."""
        return refused(self.world, lambda: self.send(**changes), reason, recorded=self.chip.device_id)


@dataclass
class Attestation:
    """A routine proof of an enrolled device, with its registers and its log beside the quote."""

    world: World
    chip: SoftChip
    purpose: Purpose = Purpose.ATTEST_QUOTE

    def __post_init__(self) -> None:
        self.enrolled = self.world.enrol(self.chip)
        self.nonce = self.enrolled.next.nonce

    def bound(self, **changes: Any) -> bytes:
        """Return the qualifying data of the quote, honest unless changed."""
        fields = {"purpose": self.purpose, "nonces": (self.nonce,), **changes}
        return self.chip.bound(fields.pop("purpose"), fields.pop("nonces"), **fields)

    def send(self, **changes: Any) -> Attested:
        """Send the proof; a success brings the next nonce."""
        whole = {"pcrs": self.chip.values(), "event_log": self.chip.event_log, **changes}
        answer = self.world.attest(self.chip.attest_request(whole.pop("nonce", self.nonce), **whole))
        self.nonce = answer.next.nonce
        return answer

    def refuse(self, reason: Reason, **changes: Any) -> Problem:
        """Send it and hold the rule: what comes after the signature is recorded, what a stranger can send is not."""
        proved = self.chip.device_id if reason in RECORDED else None
        return refused(self.world, lambda: self.send(**changes), reason, recorded=proved)
