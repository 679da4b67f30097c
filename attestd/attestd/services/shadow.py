"""Staged versions, held against what devices prove, beside everything that decides.

Runs behind the routine path and never in it: it looks for devices whose newest proof a staged version has not seen, judges what
the record has of it (`services.kept`), and keeps what came of it for people. Proves nothing. Changes no state, issues nothing,
answers no device: nobody who decides reads what is written here. Costs one question about the policy's head while nothing is
staged. Assumes one caller at a time in a process; several processes do the same work and store the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog
from sqlalchemy import Connection

from attestd.appraisal.policy import Profile, Tier
from attestd.changes.book import PolicyBook
from attestd.services.context import Verifier
from attestd.services.kept import Hindsight, Opinion, Untold
from attestd.services.records import finding_document
from attestd.services.simulate import OUT_OF_SERVICE, profile_of
from attestd.store import shadow as rows
from attestd.store.changes import share_policy
from attestd.store.kept import KeptProof, kept_proofs
from attestd.store.routine import policy_head
from attestd.store.shadow import ShadowRecord

BATCH: Final = 200
"""Verdicts of one round: some tenths of a second of one thread and of one reading transaction, so that nobody waits for it."""
MAX_FINDINGS: Final = 8
"""Findings kept with one verdict; `attestd profile shadow` shows all."""

_OUTCOMES: Final = {Tier.AFFIRMING: "pass", Tier.WARNING: "warn", Tier.CONTRAINDICATED: "fail", Tier.NONE: "fail"}
_log = structlog.get_logger("attestd.shadow")


@dataclass(slots=True)
class Watch:
    """Where the looking stands, between rounds: it can be lost at any time."""

    book: PolicyBook | None = None
    staged: tuple[Profile, ...] = ()
    hindsight: Hindsight | None = None
    reached: dict[bytes, str] = field(default_factory=dict)
    tidied: bool = False


def look(verifier: Verifier, watch: Watch) -> int:
    """Judge what is new, at most BATCH proofs by some staged version, and return how many verdicts were stored.

    *Raises* Refused (policy-unapproved), StoreError.
    """
    with verifier.store.read() as connection:
        book = verifier.policy.book(connection)
        if watch.book is not book:
            _begin(verifier, watch, book)
        stale = not watch.tidied and rows.has_shadow(connection, _digests(watch))
        found = _round(verifier, watch, connection)
    if stale or found:
        with verifier.store.write() as connection:
            share_policy(connection)
            if policy_head(connection) != book.sequence:
                return 0  # what was staged may be so no longer: the next round sees it
            if stale:
                rows.forget_shadow(connection, _digests(watch))
            rows.store_shadow(connection, [verdict for verdict, _ in found])
    watch.tidied = True
    for verdict, before in found:
        _tell(verdict, before)
    return len(found)


def _begin(verifier: Verifier, watch: Watch, book: PolicyBook) -> None:
    """Take up the staged versions of a book that was not seen before."""
    watch.staged = tuple(one for name in sorted(book.profiles) for one in verifier.policy.staged(book, name))
    watch.hindsight = Hindsight(verifier, book) if watch.staged else None
    watch.reached, watch.tidied = {}, False
    watch.book = book


def _digests(watch: Watch) -> list[bytes]:
    return [one.digest for one in watch.staged]


def _round(verifier: Verifier, watch: Watch, connection: Connection) -> list[tuple[ShadowRecord, ShadowRecord | None]]:
    """Return new verdicts, each with the one before it. The version that came first comes last in the next round."""
    left, told = BATCH, []
    for version in watch.staged:
        due = _due(connection, watch, version, left)
        told += _judged(verifier, watch, connection, version, due)
        left -= len(due)
        if not left:
            break
    watch.staged = (*watch.staged[1:], *watch.staged[:1])
    return told


def _due(connection: Connection, watch: Watch, version: Profile, limit: int) -> tuple[str, ...]:
    """Return devices that a version has to judge; the next time those behind them, so that none waits for ever."""
    after = watch.reached.get(version.digest, "")
    due = rows.due_for_shadow(
        connection, version.digest, profile=version.name, after=after, without=OUT_OF_SERVICE, limit=limit
    )
    watch.reached[version.digest] = due[-1] if len(due) == limit else ""
    return due


def _judged(
    verifier: Verifier, watch: Watch, connection: Connection, version: Profile, due: Sequence[str]
) -> list[tuple[ShadowRecord, ShadowRecord | None]]:
    assert watch.book is not None
    assert watch.hindsight is not None
    if not due:
        return []
    earlier = rows.load_shadow(connection, version.digest, due)
    now, told = verifier.now(), []
    for row in kept_proofs(connection, due):
        if profile_of(watch.book, row) == version.name:
            opinion = _opinion(watch.hindsight, connection, row, version, now)
            before = earlier.get(row.device_id)
            told.append((_verdict(row, version, opinion, before, now), before))
    return told


def _opinion(
    hindsight: Hindsight, connection: Connection, row: KeptProof, version: Profile, now: int
) -> Opinion | Untold:
    kept = hindsight.prove(row)
    return kept if isinstance(kept, Untold) else hindsight.judge(connection, kept, (version,), now=now)


def _verdict(
    row: KeptProof, version: Profile, opinion: Opinion | Untold, before: ShadowRecord | None, now: int
) -> ShadowRecord:
    """Return the verdict; one that says the same as before has stood since then."""
    assert row.last_attestation is not None
    made = ShadowRecord(
        device_id=row.device_id,
        profile_digest=version.digest,
        profile=version.name,
        profile_version=version.version,
        attestation=row.last_attestation,
        log_digest=row.log_digest,
        pcr_digest=row.pcr_digest,
        outcome="untold" if isinstance(opinion, Untold) else _OUTCOMES[opinion.tier],
        since=now,
        findings=_findings(opinion),
    )
    return replace(made, since=before.since) if before is not None and before.outcome == made.outcome else made


def _findings(opinion: Opinion | Untold) -> list[dict[str, Any]] | None:
    if isinstance(opinion, Untold):
        return [{"code": opinion.cause}]
    return [finding_document(one) for one in opinion.findings[:MAX_FINDINGS]] or None


def _tell(verdict: ShadowRecord, before: ShadowRecord | None) -> None:
    """Say in the log, once, that a device would be refused or warned about, and when that is over."""
    if before is not None and before.outcome == verdict.outcome:
        return
    said = {"device": verdict.device_id, "profile": verdict.profile, "version": verdict.profile_version}
    if verdict.outcome in ("fail", "warn"):
        codes = [f"{one['code']} {one['claim']}" for one in verdict.findings or () if "claim" in one]
        _log.warning("shadow-refused", **said, outcome=verdict.outcome, findings=codes)
    elif verdict.outcome == "pass" and before is not None:
        _log.info("shadow-passed", **said)


@dataclass(frozen=True, slots=True)
class Count:
    """How many devices a staged version passes, warns about, fails, cannot tell of, and has not seen yet."""

    passes: int
    warns: int
    fails: int
    untold: int
    unseen: int


def count(connection: Connection, name: str, digest: bytes) -> Count:
    """Return what a staged version of the profile `name` has said so far."""
    found = rows.count_shadow(connection, digest)
    unseen = max(0, rows.count_judged(connection, name, without=OUT_OF_SERVICE) - sum(found.values()))
    passes, warns, fails, untold = (found.get(outcome, 0) for outcome in ("pass", "warn", "fail", "untold"))
    return Count(passes, warns, fails, untold, unseen)


def standing_of(connection: Connection, device_id: str, staged: Sequence[bytes]) -> tuple[ShadowRecord, ...]:
    """Return what the staged versions with these digests say of a device."""
    return tuple(one for one in rows.list_shadow(connection, device_id=device_id) if one.profile_digest in staged)
