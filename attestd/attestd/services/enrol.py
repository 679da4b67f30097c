"""Enrolment: two messages, one transaction. The numbers are those of docs/protocol.md, "Enrolment".

Until the activation secret has come back, the caller is a stranger: it costs us one certificate chain and one wrapped secret,
writes nothing and learns a reason code. From then on it is a TPM that we know, and what it is refused for is recorded.
"""

import hashlib
import hmac
from dataclasses import dataclass, replace

from attestd.appraisal.policy import Tier
from attestd.appraisal.result import findings_for_device
from attestd.changes.book import Admission, PolicyBook, Withdrawn
from attestd.errors import Refused
from attestd.evidence.ak import check_attestation_key, check_certification, check_device_key
from attestd.evidence.ek import EndorsementKey, identify, pinned_identity, read_endorsement_key
from attestd.evidence.prove import Proof, ProvedEvidence, prove_evidence
from attestd.evidence.quote import Progress, check_progress
from attestd.evidence.types import EkIdentity
from attestd.issuance.mint import Subject
from attestd.issuance.wireguard import check_keys
from attestd.lifecycle.table import MEANINGS, Event, State, move
from attestd.protocol import codec, limits
from attestd.protocol.binding import Purpose, qualifying_data
from attestd.protocol.messages import (
    PATH_ENROL_PROOF,
    Challenge,
    EnrolChallenge,
    Enrolled,
    EnrolProof,
    EnrolRequest,
    QuoteRequest,
)
from attestd.protocol.reasons import Reason
from attestd.services import records
from attestd.services.context import Verifier
from attestd.services.issue import issue_certificate, issue_vpn, withdraw
from attestd.services.judge import Judgement, judge
from attestd.services.publish import publish_revocations
from attestd.store import devices, log
from attestd.store.changes import share_policy
from attestd.store.devices import DeviceRecord, LoadedDevice
from attestd.store.errors import StaleState
from attestd.tpm.algorithms import DIGEST_SIZES
from attestd.tpm.credential import make_credential
from attestd.tpm.errors import Malformed
from attestd.tpm.public import Public, spki


@dataclass(frozen=True, slots=True)
class Applicant:
    """An enrolment request whose keys have their proper form; nothing is proved yet."""

    request: EnrolRequest
    ek: EndorsementKey
    attestation_key: Public
    device_key: Public


def challenge(verifier: Verifier, request: EnrolRequest, body: bytes) -> EnrolChallenge:
    """Answer the first message: one challenge for each challenger. `body` is the message's bytes as they came.

    Raises `Refused`. Writes nothing and remembers nothing that is needed later.
    """
    now = verifier.now()
    applicant = _read(verifier, request)
    _identify(verifier, applicant, now)
    digest = hashlib.sha256(body).digest()
    expires_ms = now + limits.ENROLMENT_NONCE_SECONDS * 1000
    nonce = verifier.challenger.enrol_nonce(digest, random=verifier.random(16), issued_ms=now, expires_ms=expires_ms)
    secret = verifier.challenger.activation_secret(nonce, digest)
    seed = verifier.random(DIGEST_SIZES[applicant.ek.public.name_algorithm])
    try:
        blob, encrypted = make_credential(applicant.ek.public, applicant.attestation_key.name, secret, seed=seed)
    except Malformed as error:
        raise Refused(Reason.EK_PUBLIC_MALFORMED, str(error)) from None
    return EnrolChallenge(
        challenges=(Challenge(verifier.challenger.name, nonce, blob, encrypted),),
        quote=QuoteRequest(verifier.selection.bank, verifier.selection.pcrs),
        expires_in=limits.ENROLMENT_NONCE_SECONDS,
    )


def prove(verifier: Verifier, proof: EnrolProof, media_type: str) -> Enrolled:
    """Answer the second message. Raises `Refused`; after the activation, also with what a person needs to repair it."""
    now = verifier.now()
    try:
        request = codec.decode(EnrolRequest, proof.request, media_type)
    except codec.MessageMalformed as error:
        raise Refused(Reason.MESSAGE_MALFORMED, f"request: {error}") from None
    applicant = _read(verifier, request)
    _check_activations(verifier, proof, now)
    # From here on the caller is the TPM that it says it is.
    try:
        identity = _identify(verifier, applicant, now)
        proved = _authenticate(verifier, applicant, identity, proof)
        return _Enrolment(verifier, applicant, proved, proof, now).decide()
    except Refused as refused:
        # That nobody announced a device, its state says; a stranger with a TPM writes no row for each try (T04).
        if refused.reason is not Reason.DEVICE_UNANNOUNCED:
            records.record_refusal(verifier, applicant.ek.device_id, refused, route=PATH_ENROL_PROOF, now=now)
        raise


def _read(verifier: Verifier, request: EnrolRequest) -> Applicant:
    """Check form: the server's name, the endorsement key, the attestation key, the device key, the VPN keys."""
    if request.server not in verifier.server_names:
        raise Refused(Reason.QUOTE_BINDING, f"another server: {request.server[:64]}")
    ek = read_endorsement_key(request.ek_public)
    attestation_key = check_attestation_key(request.ak_public)
    device_key = check_device_key(request.device_key)
    check_keys(request.vpn_keys)
    return Applicant(request, ek, attestation_key, device_key)


def _identify(verifier: Verifier, applicant: Applicant, now: int) -> EkIdentity:
    """Return who made the TPM: by its certificate, or, where policy allows it, by the inventory that pins its key."""
    certificates = applicant.request.ek_certificates
    if not certificates and verifier.pinned_ek_allowed:
        with verifier.store.read() as connection:
            if verifier.policy.book(connection).entry(applicant.ek.device_id) is not None:
                return pinned_identity(applicant.ek)
    # Remembered for no longer than one enrolment lasts: a certificate that has expired since must be seen to have.
    window = now // (limits.ENROLMENT_NONCE_SECONDS * 1000)
    key = hashlib.sha256(b"\0".join((applicant.ek.spki, *certificates, str(window).encode()))).digest()
    known = verifier.identities.get(key)
    if known is None:
        known = identify(applicant.ek, certificates, policy=verifier.ek_policy, now_s=now // 1000)
        verifier.identities.put(key, known)
    return known


def _check_activations(verifier: Verifier, proof: EnrolProof, now: int) -> None:
    """Check that every challenger's nonce is its own and fresh, and that the TPM recovered its secret.

    A wrong secret and a guessed one are told apart by nothing: one comparison in constant time, one reason.
    """
    if [activation.challenger for activation in proof.activations] != [verifier.challenger.name]:
        raise Refused(Reason.CHALLENGERS_MISMATCH)
    digest = hashlib.sha256(proof.request).digest()
    (activation,) = proof.activations
    verifier.challenger.check_enrol_nonce(activation.nonce, request_digest=digest, now_ms=now)
    expected = verifier.challenger.activation_secret(activation.nonce, digest)
    if not hmac.compare_digest(expected, activation.secret):
        raise Refused(Reason.ACTIVATION_FAILED)


def _authenticate(verifier: Verifier, applicant: Applicant, identity: EkIdentity, proof: EnrolProof) -> ProvedEvidence:
    """Check the certification of the device key and prove the evidence, both bound to this enrolment."""

    def bound(purpose: Purpose) -> bytes:
        return qualifying_data(
            purpose,
            server=applicant.request.server,
            nonces=[activation.nonce for activation in proof.activations],
            device_id=applicant.ek.device_id,
            device_key_name=applicant.device_key.name,
            vpn_keys=applicant.request.vpn_keys,
        )

    check_certification(
        applicant.attestation_key,
        applicant.device_key,
        attest=proof.certify.attest,
        signature=proof.certify.signature,
        qualifying_data=bound(Purpose.ENROL_CERTIFY),
    )
    return prove_evidence(
        identity,
        applicant.attestation_key,
        Proof(proof.quote, proof.pcrs, proof.event_log, proof.runtime),
        qualifying_data=bound(Purpose.ENROL_QUOTE),
        selection=verifier.selection,
    )


@dataclass(frozen=True, slots=True)
class _Enrolment:
    """One decision: load, judge, move, issue, store; then answer."""

    verifier: Verifier
    applicant: Applicant
    proved: ProvedEvidence
    proof: EnrolProof
    now: int

    @property
    def device_id(self) -> str:
        return self.applicant.ek.device_id

    @property
    def nonce(self) -> bytes:
        """The nonce of the challenge, which `_check_activations` has checked."""
        return self.proof.activations[0].nonce

    def decide(self) -> Enrolled:
        """Return the answer after the commit, or raise the refusal after the commit that records it."""
        try:
            with self.verifier.store.write() as connection:
                share_policy(connection)
                known = devices.load_device(connection, self.device_id)
                self._check_known(known)
                if devices.other_holder(connection, self.applicant.attestation_key.name, self.device_id):
                    raise Refused(Reason.AK_IN_USE)
                book = self.verifier.policy.book(connection)
                outcome, withdrawn = self._enter(connection, book, known)
        except StaleState:
            raise Refused(Reason.SERVER_BUSY, "another enrolment of this device", retry_after=2) from None
        if withdrawn:
            publish_revocations(self.verifier)
        if isinstance(outcome, Refused):
            raise outcome
        return outcome

    def _check_known(self, known: LoadedDevice | None) -> None:
        """Refuse what a known device may not change, and whom a person has shut out."""
        if known is None:
            return
        if known.state.state == State.BANNED:
            raise Refused(Reason.DEVICE_BANNED)
        if known.state.state == State.RETIRED:
            raise Refused(Reason.DEVICE_RETIRED)
        if known.device.ak_name is None:  # an operator readmitted it: keys, clock and firmware start anew
            return
        if known.device.ak_name != self.applicant.attestation_key.name:
            raise Refused(Reason.AK_CHANGED)
        quote = self.proved.evidence.quote
        if known.device.tpm_firmware not in (None, quote.firmware_version):
            raise Refused(Reason.TPM_FIRMWARE_CHANGED, f"{quote.firmware_version:#x}")
        last = Progress(known.state.reset_count, known.state.restart_count, known.state.clock)
        check_progress(last, self.proved.quote, rebooted=True)

    def _enter(
        self, connection: records.Connection, book: PolicyBook, known: LoadedDevice | None
    ) -> tuple[Enrolled | Refused, bool]:
        """Return the outcome, and whether certificates were revoked. Everything is stored by the caller's transaction."""
        identity = self.proved.evidence.ek
        admission = book.admission(self.device_id, manufacturer=identity.manufacturer or None, model=identity.model)
        if isinstance(admission, Withdrawn):
            raise Refused(Reason.INVENTORY_WITHDRAWN)
        if admission is None:
            if known is not None and MEANINGS[State(known.state.state)].keeps:
                raise Refused(Reason.INVENTORY_WITHDRAWN, "no rule admits it any longer")
            if known is None or move(State(known.state.state), Event.UNANNOUNCED) != known.state.state:
                self._store(connection, known, Event.UNANNOUNCED, None, None)
            return Refused(Reason.DEVICE_UNANNOUNCED, retry_after=self.verifier.timing.pending_retry), False
        judged = judge(
            self.proved.evidence,
            self.verifier.policy.profiles(book, admission.profile),
            log_digest=self.proved.log_digest,
            boots=self.verifier.boots,
            now=self.now,
        )
        event = _EVENTS[judged.result.tier]
        state = self._store(connection, known, event, admission, judged)
        revoked = False
        if known is not None and (event is Event.ENROLLED or not MEANINGS[state].keeps):
            reason = "superseded" if event is Event.ENROLLED else "privilegeWithdrawn"
            revoked = withdraw(connection, self.device_id, now=self.now, reason=reason)
        if event is Event.ENROLLED and judged.profile is not None:
            return self._issue(connection, admission, judged), revoked
        return _refusal(judged), revoked

    def _store(
        self,
        connection: records.Connection,
        known: LoadedDevice | None,
        event: Event,
        admission: Admission | None,
        judged: Judgement | None,
    ) -> State:
        before = State(known.state.state) if known else None
        after = move(before, event)
        keeps = MEANINGS[after].keeps
        deadline = records.deadline_of(judged, self.nonce) if keeps else None
        if deadline is not None:
            records.check_in_time(deadline, now=self.now)
        held = known.device if known and keeps and event is not Event.ENROLLED else None
        devices.upsert_enrolment(
            connection,
            self._device(admission, held),
            records.state_record(
                self.device_id,
                self.proved,
                judged,
                state=after,
                since=known.state.since if known and before is after else self.now,
                deadline=deadline,
                now=self.now,
            ),
            records.evidence_record(self.device_id, self.proved, judged),
            records.move_record(self.device_id, before, after, event=event, judged=judged, now=self.now),
            expected_version=known.state.version if known else None,
        )
        if judged is not None:
            self._record(connection, judged, after)
        return after

    def _record(self, connection: records.Connection, judged: Judgement, after: State) -> None:
        """Record a proof that was appraised, with its log. Of a device that nobody announced, neither is kept (T04)."""
        log.put_event_log(connection, self.proof.event_log, now=self.now)
        row = records.attestation_row(
            self.device_id,
            self.proved,
            judged,
            state=after,
            kind="enrol",
            signed=self.proof.quote,
            nonce=self.nonce,
            now=self.now,
        )
        log.append_attestation(connection, row)

    def _device(self, admission: Admission | None, held: DeviceRecord | None) -> DeviceRecord:
        """Return the device's row; `held` is the present one of a device that keeps its credentials and gets no new ones.

        Its keys stay those that the credentials are for: the new ones were certified, and nothing was issued for them.
        """
        identity, keys = self.proved.evidence.ek, self.applicant
        made = DeviceRecord(
            device_id=self.device_id,
            name=admission.name if admission else None,
            site=admission.site if admission else None,
            ek_public=keys.request.ek_public,
            ek_certificate_sha256=identity.certificate_sha256,
            manufacturer=identity.manufacturer,
            model=identity.model,
            ek_deviations=identity.deviations,
            ak_public=keys.request.ak_public,
            ak_name=keys.attestation_key.name,
            device_key_name=keys.device_key.name,
            device_key_spki=spki(keys.device_key),
            vpn_keys=keys.request.vpn_keys,
            tpm_firmware=self.proved.evidence.quote.firmware_version,
            enrolled_at=self.now,
            labels=keys.request.labels,
        )
        if held is None:
            return made
        return replace(
            made,
            device_key_name=held.device_key_name,
            device_key_spki=held.device_key_spki,
            vpn_keys=held.vpn_keys,
            enrolled_at=held.enrolled_at,
        )

    def _issue(self, connection: records.Connection, admission: Admission, judged: Judgement) -> Enrolled:
        subject = self.subject()
        chain = issue_certificate(self.verifier, connection, judged.result, subject=subject, now=self.now)
        vpn = issue_vpn(self.verifier, connection, subject, name=admission.name or self.device_id, now=self.now)
        deadline = records.deadline_of(judged, self.nonce)
        return Enrolled(
            device_id=self.device_id,
            state=State.TRUSTED.value,
            result=records.sign_result(self.verifier, judged, nonce=self.nonce, deadline=deadline, now=self.now),
            certificate_chain=chain,
            next=records.following(self.verifier, self.device_id, judged, deadline=deadline, now=self.now),
            vpn=vpn,
        )

    def subject(self) -> Subject:
        """Return the keys that this proof bound."""
        return Subject(
            device_id=self.device_id,
            ak_name=self.applicant.attestation_key.name,
            device_key_spki=spki(self.applicant.device_key),
            vpn_keys=self.applicant.request.vpn_keys,
        )


_EVENTS = {
    Tier.AFFIRMING: Event.ENROLLED,
    Tier.WARNING: Event.WARNED,
    Tier.CONTRAINDICATED: Event.FAILED,
    Tier.NONE: Event.FAILED,
}


def _refusal(judged: Judgement) -> Refused:
    """Return the refusal for a result that is not affirming; the device learns where it fails."""
    findings = judged.result.findings
    detail = "; ".join(f"{finding.code.value} {finding.claim} {finding.component}" for finding in findings[:3])
    reason = findings[0].code if findings and findings[0].code in _POLICY else Reason.EVIDENCE_REFUSED
    return Refused(reason, detail, findings=findings_for_device(judged.result))


_POLICY = frozenset({Reason.POLICY_MISSING, Reason.POLICY_EMPTY})
