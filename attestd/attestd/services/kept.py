"""What profiles would say of the newest proof that the record has of a device: the same appraisal, later.

Proves of a proof out of the record what can still be proved: that the device's key signed exactly these registers and that the
kept log explains them. That it was fresh and bound to its exchange was checked when it came and is not kept. Whatever cannot be
told is said to be untold, and is never taken for a pass. Decides nothing and stores nothing.

Each distinct boot (profile, log, registers) is parsed and appraised once; PCR 10 and the TPM are looked at for each device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import Connection

from attestd.appraisal.appraise import BootKey, BootVerdict, appraise_boot, assemble, boot_key, without_profile
from attestd.appraisal.policy import Check, Profile, Tier
from attestd.appraisal.result import AttestationResult, FindingDetail
from attestd.appraisal.steps import RUNTIME_REGISTER
from attestd.appraisal.wider import accepts_all_of
from attestd.changes.book import PolicyBook
from attestd.errors import Refused
from attestd.evidence.ak import check_attestation_key
from attestd.evidence.prove import ProvedEvidence, gather
from attestd.evidence.quote import AuthenticQuote, authenticate_quote, check_pcr_values
from attestd.protocol.messages import PcrValue, SignedAttest
from attestd.protocol.reasons import Reason
from attestd.services.context import Verifier
from attestd.services.memory import Memory
from attestd.services.recall import identity_of
from attestd.store import log
from attestd.store.errors import StoreError
from attestd.store.kept import KeptProof
from attestd.tpm.algorithms import DIGEST_SIZES
from attestd.tpm.attest import parse_attest
from attestd.tpm.errors import Malformed

Cause = Literal["no-evidence", "evidence-unsound", "log-not-kept", "runtime-not-kept"]

UNTOLD: Final[dict[Cause, str]] = {
    "no-evidence": "no proof of the device was appraised yet, or its keys were reset since",
    "evidence-unsound": "what the record has does not verify, or is over other registers than are asked for today",
    "log-not-kept": "the boot log is not kept any longer",
    "runtime-not-kept": "the runtime list is not kept, and the version asks more of it than the one that accepted it",
}
"""Why nothing can be told of a device."""

_BOOTS: Final = 4_096
"""Verdicts of distinct boots that are remembered during one look back, about 10 KiB each where they fail."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a set of profiles says of a proof: the tier, why, and which version said so (None: none was given)."""

    tier: Tier
    findings: tuple[FindingDetail, ...]
    profile: Profile | None


@dataclass(frozen=True, slots=True)
class Untold:
    """Nothing can be told of a proof, for this cause."""

    cause: Cause


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept proof that verified once more, and the digest of the profile that accepted its runtime list, if one did."""

    proved: ProvedEvidence
    runtime_accepted_by: bytes | None


class Hindsight:
    """Appraises kept proofs. Remembers the verdicts of boots, and may be used by one thread."""

    def __init__(self, verifier: Verifier, book: PolicyBook) -> None:
        """`book` knows the profiles, active or not, that accepted runtime lists."""
        self._verifier = verifier
        self._book = book
        self._verdicts: Memory[BootKey, BootVerdict] = Memory(_BOOTS)

    def prove(self, row: KeptProof) -> Kept | Untold:
        """Return the kept proof, verified again as far as it can be."""
        if row.ak_public is None or row.attest is None or row.signature is None or row.pcrs is None:
            return Untold("no-evidence")
        if row.log_digest is None:
            return Untold("log-not-kept")
        try:
            quote, pcrs = self._quote(row, row.ak_public, SignedAttest(row.attest, row.signature))
        except (Refused, Malformed):  # the record is believed as far as the device's signature goes
            return Untold("evidence-unsound")
        proved = gather(
            identity_of(row),
            quote,
            attest=row.attest,
            pcrs=pcrs,
            bank=self._verifier.selection.bank,
            event_log=None,
            log_digest=row.log_digest,
            runtime=None,
        )
        same = row.runtime_value is not None and dict(pcrs).get(RUNTIME_REGISTER) == row.runtime_value
        return Kept(proved, _digest_in(row.runtime_verdict) if same else None)

    def judge(self, connection: Connection, kept: Kept, profiles: Sequence[Profile], *, now: int) -> Opinion | Untold:
        """Return what the best of `profiles` says, as `services.judge` chooses: the first that affirms, else the mildest.

        Untold where none affirms and one of them could.
        """
        if not profiles:
            return _opinion(without_profile(kept.proved.evidence, now_ms=now), None)
        try:
            verdicts = self._boots(connection, kept.proved, profiles)
        except (Refused, StoreError):
            return Untold("evidence-unsound")
        if verdicts is None:
            return Untold("log-not-kept")
        best: Opinion | None = None
        open_: Untold | None = None
        for profile, verdict in zip(profiles, verdicts, strict=True):
            result = assemble(
                kept.proved.evidence, verdict, profile=profile, now_ms=now, log_digest=kept.proved.log_digest
            )
            told = self._complete(result, profile, kept)
            if isinstance(told, Untold):
                open_ = told
            elif told.tier is Tier.AFFIRMING:
                return told
            elif best is None or (told.tier, len(told.findings)) < (best.tier, len(best.findings)):
                best = told
        told_or_open = open_ or best
        assert told_or_open is not None
        return told_or_open

    def _quote(
        self, row: KeptProof, ak_public: bytes, signed: SignedAttest
    ) -> tuple[AuthenticQuote, tuple[tuple[int, bytes], ...]]:
        """Return the quote and its registers. *Raises* Refused, Malformed."""
        selection = self._verifier.selection
        key = self._verifier.keys.get(ak_public) or check_attestation_key(ak_public)
        # The binding to the exchange held when the proof came; what it was made of is not all kept.
        bound = parse_attest(signed.attest).extra_data
        quote = authenticate_quote(key, signed, qualifying_data=bound, selection=selection)
        size, held = DIGEST_SIZES[selection.bank], row.pcrs or b""
        parts = [held[at : at + size] for at in range(0, len(held), size)]
        values = [PcrValue(index, value) for index, value in zip(selection.pcrs, parts, strict=False)]
        return quote, check_pcr_values(quote, values, selection)

    def _boots(
        self, connection: Connection, proved: ProvedEvidence, profiles: Sequence[Profile]
    ) -> list[BootVerdict] | None:
        """Return the boot's verdict under each profile; None where the log is needed and not kept.

        *Raises* Refused, StoreError for a log that does not parse or was changed.
        """
        quote = proved.evidence.quote
        keys = [boot_key(profile, quote, log_digest=proved.log_digest) for profile in profiles]
        found = [self._verdicts.get(key) for key in keys]
        if None in found:
            kept = log.get_event_log(connection, proved.log_digest)
            if kept is None:
                return None
            whole = gather(
                proved.evidence.ek,
                proved.quote,
                attest=b"",  # names the result's evidence alone, which a boot's verdict does not have
                pcrs=quote.pcrs,
                bank=quote.bank,
                event_log=kept,
                log_digest=proved.log_digest,
                runtime=None,
            )
            for at, profile in enumerate(profiles):
                if found[at] is None:
                    verdict = appraise_boot(whole.evidence.boot, quote, profile=profile)
                    found[at] = verdict
                    self._verdicts.put(keys[at], verdict)
        return [verdict for verdict in found if verdict is not None]

    def _complete(self, result: AttestationResult, profile: Profile, kept: Kept) -> Opinion | Untold:
        """Return what is told where the runtime list would have been looked at, and the record does not have it."""
        missing = [one for one in result.findings if one.claim == "runtime" and one.code is Reason.RUNTIME_NEEDED]
        if not missing or profile.runtime.check is Check.ABSENT:  # a list would be refused like its absence
            return _opinion(result, profile)
        others = tuple(one for one in result.findings if one not in missing)
        tier = max((one.tier for one in others), default=Tier.AFFIRMING)
        if tier is not Tier.CONTRAINDICATED and not self._accepted(profile, kept.runtime_accepted_by):
            return Untold("runtime-not-kept")
        return Opinion(tier, others, profile)

    def _accepted(self, profile: Profile, digest: bytes | None) -> bool:
        """Return whether the profile accepts every runtime list that the one with this digest has accepted."""
        if digest is None or digest == profile.digest:
            return digest is not None
        earlier = self._verifier.policy.version(self._book, digest)
        return earlier is not None and accepts_all_of(profile.runtime, earlier.runtime)


def _opinion(result: AttestationResult, profile: Profile | None) -> Opinion:
    return Opinion(result.tier, result.findings, profile)


def _digest_in(verdict: object) -> bytes | None:
    """Return the digest in a stored runtime verdict, or None for what is none."""
    text = verdict.get("profile") if isinstance(verdict, dict) else None
    try:
        return bytes.fromhex(text) if isinstance(text, str) else None
    except ValueError:
        return None
