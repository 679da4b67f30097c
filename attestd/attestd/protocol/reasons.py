"""The reason codes of the protocol: stable, one meaning each, never reused.

A code is all that a caller who has proved nothing learns. A device that has proved its TPM also learns which claim
failed and in which component, so that a person can repair it; nobody ever learns an expected value.
"""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a request was refused, or why a verdict is not affirming."""

    # The message
    MESSAGE_MALFORMED = "message-malformed"
    MESSAGE_TOO_LARGE = "message-too-large"
    MESSAGE_TIMEOUT = "message-timeout"
    MEDIA_TYPE_UNSUPPORTED = "media-type-unsupported"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    SERVER_BUSY = "server-busy"
    INTERNAL = "internal"
    # The challenge
    NONCE_INVALID = "nonce-invalid"
    NONCE_EXPIRED = "nonce-expired"
    CHALLENGERS_MISMATCH = "challengers-mismatch"
    REPLAYED = "replayed"
    # The endorsement key
    EK_PUBLIC_MALFORMED = "ek-public-malformed"
    EK_CERTIFICATE_MISSING = "ek-certificate-missing"
    EK_CERTIFICATE_MALFORMED = "ek-certificate-malformed"
    EK_CERTIFICATE_MISMATCH = "ek-certificate-mismatch"
    EK_CERTIFICATE_PROFILE = "ek-certificate-profile"
    EK_CERTIFICATE_EXPIRED = "ek-certificate-expired"
    EK_CERTIFICATE_WEAK = "ek-certificate-weak"
    EK_CHAIN_UNTRUSTED = "ek-chain-untrusted"
    # The attestation key and the device key
    AK_MALFORMED = "ak-malformed"
    AK_ATTRIBUTES = "ak-attributes"
    AK_SCHEME = "ak-scheme"
    AK_CHANGED = "ak-changed"
    AK_IN_USE = "ak-in-use"
    ACTIVATION_FAILED = "activation-failed"
    DEVICE_KEY_MALFORMED = "device-key-malformed"
    DEVICE_KEY_ATTRIBUTES = "device-key-attributes"
    DEVICE_KEY_NOT_CERTIFIED = "device-key-not-certified"
    VPN_KEY_MALFORMED = "vpn-key-malformed"
    VPN_KEY_IN_USE = "vpn-key-in-use"
    # The quote
    QUOTE_MALFORMED = "quote-malformed"
    QUOTE_MAGIC = "quote-magic"
    QUOTE_TYPE = "quote-type"
    QUOTE_SCHEME = "quote-scheme"
    QUOTE_SIGNATURE = "quote-signature"
    QUOTE_SELECTION = "quote-selection"
    QUOTE_BINDING = "quote-binding"
    QUOTE_PCR_DIGEST = "quote-pcr-digest"
    PCR_VALUES_MALFORMED = "pcr-values-malformed"
    PCR_VALUES_NEEDED = "pcr-values-needed"
    PCR_BANK_INACTIVE = "pcr-bank-inactive"
    TPM_CLOCK_BACKWARDS = "tpm-clock-backwards"
    TPM_RESET_BACKWARDS = "tpm-reset-backwards"
    TPM_RESET_UNANNOUNCED = "tpm-reset-unannounced"
    TPM_FIRMWARE_CHANGED = "tpm-firmware-changed"
    TPM_DIVERGED = "tpm-diverged"
    # The logs
    LOG_MALFORMED = "log-malformed"
    LOG_NEEDED = "log-needed"
    LOG_UNEXPLAINED = "log-unexplained"
    LOG_EVENT_ALTERED = "log-event-altered"
    LOG_ORDER = "log-order"
    RUNTIME_MALFORMED = "runtime-malformed"
    RUNTIME_NEEDED = "runtime-needed"
    RUNTIME_UNEXPLAINED = "runtime-unexplained"
    # Reference values and policy
    POLICY_MISSING = "policy-missing"
    POLICY_EMPTY = "policy-empty"
    POLICY_UNAPPROVED = "policy-unapproved"
    POLICY_CHANGED = "policy-changed"
    CLAIM_MISMATCH = "claim-mismatch"
    CLAIM_MISSING = "claim-missing"
    CLAIM_UNEXPECTED = "claim-unexpected"
    APPRAISAL_ERROR = "appraisal-error"
    EVIDENCE_REFUSED = "evidence-refused"
    # Admission and lifecycle
    DEVICE_UNANNOUNCED = "device-unannounced"
    DEVICE_UNKNOWN = "device-unknown"
    DEVICE_BANNED = "device-banned"
    DEVICE_RETIRED = "device-retired"
    ENROLMENT_NEEDED = "enrolment-needed"
    INVENTORY_WITHDRAWN = "inventory-withdrawn"
    INVENTORY_CLAIMED = "inventory-claimed"
    # Issuance
    GRANT_INVALID = "grant-invalid"
    GRANT_USED = "grant-used"
    GRANT_EXPIRED = "grant-expired"
    ADDRESSES_EXHAUSTED = "addresses-exhausted"
    # Relying parties and operators
    TOKEN_MISSING = "token-missing"  # noqa: S105 (a reason code, not a secret)
    TOKEN_INVALID = "token-invalid"  # noqa: S105
    TOKEN_SCOPE = "token-scope"  # noqa: S105


@dataclass(frozen=True, slots=True)
class ProblemType:
    """What RFC 9457 says of a reason: `status`, a fixed `title`, and what the caller does next."""

    status: int
    title: str
    advice: str


_RETRY = "Wait for the time in Retry-After, then try again."
_ENROL = "Enrol again: trust is restored by an enrolment and by nothing else."
_REPAIR = "A person must look at the device: the problem names the claims that failed."
_CLIENT = "Correct the client: docs/protocol.md shows every message."
_OPERATOR = "An operator must act: the verifier's log has the details."


def _problem(status: int, title: str, advice: str) -> ProblemType:
    return ProblemType(status, title, advice)


PROBLEMS: dict[Reason, ProblemType] = {
    Reason.MESSAGE_MALFORMED: _problem(400, "The message does not have the form of the protocol", _CLIENT),
    Reason.MESSAGE_TOO_LARGE: _problem(413, "The message exceeds the bound for its kind", _CLIENT),
    Reason.MESSAGE_TIMEOUT: _problem(408, "The message did not arrive in time", _RETRY),
    Reason.MEDIA_TYPE_UNSUPPORTED: _problem(415, "Send application/cbor or application/json, not compressed", _CLIENT),
    Reason.NOT_FOUND: _problem(404, "There is nothing at this address", _CLIENT),
    Reason.METHOD_NOT_ALLOWED: _problem(405, "This address does not take that method", _CLIENT),
    Reason.SERVER_BUSY: _problem(503, "The verifier is busy", _RETRY),
    Reason.INTERNAL: _problem(500, "The verifier failed", _RETRY),
    Reason.NONCE_INVALID: _problem(
        403,
        "The nonce was not made by this verifier for this exchange",
        "Repeat the proof over the nonce in this problem, if there is one, or enrol again.",
    ),
    Reason.NONCE_EXPIRED: _problem(
        409,
        "The nonce is no longer valid",
        "Repeat the proof over the nonce in this problem, if there is one, or start again.",
    ),
    Reason.CHALLENGERS_MISMATCH: _problem(403, "The answer does not cover every challenger", _CLIENT),
    Reason.REPLAYED: _problem(
        409, "This evidence is not newer than the last", "Make a new quote; do not send one twice."
    ),
    Reason.EK_PUBLIC_MALFORMED: _problem(
        400, "The endorsement key is not a public area that the verifier knows", _CLIENT
    ),
    Reason.EK_CERTIFICATE_MISSING: _problem(403, "The endorsement key has no certificate", _OPERATOR),
    Reason.EK_CERTIFICATE_MALFORMED: _problem(400, "The endorsement key certificate cannot be read", _OPERATOR),
    Reason.EK_CERTIFICATE_MISMATCH: _problem(403, "The certificate is for another endorsement key", _OPERATOR),
    Reason.EK_CERTIFICATE_PROFILE: _problem(403, "The certificate is not an endorsement key certificate", _OPERATOR),
    Reason.EK_CERTIFICATE_EXPIRED: _problem(403, "A certificate of the chain is outside its validity", _OPERATOR),
    Reason.EK_CERTIFICATE_WEAK: _problem(403, "A certificate of the chain has a weak signature or key", _OPERATOR),
    Reason.EK_CHAIN_UNTRUSTED: _problem(
        403, "The endorsement key does not chain to an accepted manufacturer", _OPERATOR
    ),
    Reason.AK_MALFORMED: _problem(400, "The attestation key is not a public area that the verifier knows", _CLIENT),
    Reason.AK_ATTRIBUTES: _problem(
        403, "The attestation key lacks a required attribute or has a forbidden one", _CLIENT
    ),
    Reason.AK_SCHEME: _problem(403, "The attestation key does not pin an accepted signature scheme", _CLIENT),
    Reason.AK_CHANGED: _problem(403, "The device is known with another attestation key", _OPERATOR),
    Reason.AK_IN_USE: _problem(403, "Another device has this attestation key", _OPERATOR),
    Reason.ACTIVATION_FAILED: _problem(403, "The activation proof is wrong", "Start the enrolment again."),
    Reason.DEVICE_KEY_MALFORMED: _problem(400, "The device key is not a public area that the verifier knows", _CLIENT),
    Reason.DEVICE_KEY_ATTRIBUTES: _problem(403, "The device key could leave the TPM or cannot sign", _CLIENT),
    Reason.DEVICE_KEY_NOT_CERTIFIED: _problem(
        403, "The attestation key does not certify this device key for this enrolment", _CLIENT
    ),
    Reason.VPN_KEY_MALFORMED: _problem(400, "A VPN key has the wrong form or kind", _CLIENT),
    Reason.VPN_KEY_IN_USE: _problem(409, "This VPN key was used before", "Make a new VPN key and enrol again."),
    Reason.QUOTE_MALFORMED: _problem(400, "The quote or its signature is not a TPM structure", _CLIENT),
    Reason.QUOTE_MAGIC: _problem(403, "The signed structure was not made by a TPM", _CLIENT),
    Reason.QUOTE_TYPE: _problem(403, "The signed structure is not of the required attestation type", _CLIENT),
    Reason.QUOTE_SCHEME: _problem(403, "The signature's scheme is not the one pinned for the attestation key", _CLIENT),
    Reason.QUOTE_SIGNATURE: _problem(403, "The signature is not the attestation key's", _CLIENT),
    Reason.QUOTE_SELECTION: _problem(403, "The quote covers other PCRs than were asked for", _CLIENT),
    Reason.QUOTE_BINDING: _problem(403, "The quote is bound to another exchange, server or key", _CLIENT),
    Reason.QUOTE_PCR_DIGEST: _problem(
        403, "The PCR values do not hash to the quoted digest", "Read the PCRs again and repeat."
    ),
    Reason.PCR_VALUES_MALFORMED: _problem(400, "The PCR values are not exactly those that were quoted", _CLIENT),
    Reason.PCR_VALUES_NEEDED: _problem(
        409, "The PCR values are needed", "Repeat with the PCR values, over the nonce in this problem."
    ),
    Reason.PCR_BANK_INACTIVE: _problem(403, "The firmware never extended the quoted bank", _REPAIR),
    Reason.TPM_CLOCK_BACKWARDS: _problem(403, "The TPM's clock went backwards", _OPERATOR),
    Reason.TPM_RESET_BACKWARDS: _problem(403, "The TPM's reset count went backwards", _OPERATOR),
    Reason.TPM_RESET_UNANNOUNCED: _problem(
        409, "The TPM was reset since the last proof", "Say that the device rebooted: send its boot log again."
    ),
    Reason.TPM_FIRMWARE_CHANGED: _problem(403, "The TPM's firmware changed since the enrolment", _OPERATOR),
    Reason.TPM_DIVERGED: _problem(403, "Two devices answer with this identity", _OPERATOR),
    Reason.LOG_MALFORMED: _problem(400, "The boot log is not a TCG event log", _REPAIR),
    Reason.LOG_NEEDED: _problem(
        409, "The verifier does not have this boot log", "Repeat with the log, over the nonce in this problem."
    ),
    Reason.LOG_UNEXPLAINED: _problem(403, "The boot log does not explain the quoted PCRs", _REPAIR),
    Reason.LOG_EVENT_ALTERED: _problem(403, "An event's data does not hash to its digest", _REPAIR),
    Reason.LOG_ORDER: _problem(403, "The boot log's separators are missing or out of order", _REPAIR),
    Reason.RUNTIME_MALFORMED: _problem(400, "The runtime list is not an IMA measurement list", _REPAIR),
    Reason.RUNTIME_NEEDED: _problem(
        409,
        "The runtime list does not continue what the verifier has",
        "Repeat with the whole list, over the nonce in this problem.",
    ),
    Reason.RUNTIME_UNEXPLAINED: _problem(403, "The runtime list does not explain its PCR", _REPAIR),
    Reason.POLICY_MISSING: _problem(403, "The device has no active profile", _OPERATOR),
    Reason.POLICY_EMPTY: _problem(403, "The device's profile requires nothing, so nothing can satisfy it", _OPERATOR),
    Reason.POLICY_UNAPPROVED: _problem(
        403, "The device's profile or inventory entry lacks a valid approval", _OPERATOR
    ),
    Reason.POLICY_CHANGED: _problem(409, "The policy changed while the evidence was in flight", _RETRY),
    Reason.CLAIM_MISMATCH: _problem(403, "A measured component is not one of the accepted ones", _REPAIR),
    Reason.CLAIM_MISSING: _problem(403, "A required component was not measured", _REPAIR),
    Reason.CLAIM_UNEXPECTED: _problem(403, "A component was measured that must not be there", _REPAIR),
    Reason.APPRAISAL_ERROR: _problem(403, "A step of the appraisal could not be completed", _OPERATOR),
    Reason.EVIDENCE_REFUSED: _problem(403, "The evidence does not meet the device's profile", _REPAIR),
    Reason.DEVICE_UNANNOUNCED: _problem(403, "Nobody announced this device: it waits for a person's decision", _RETRY),
    Reason.DEVICE_UNKNOWN: _problem(404, "There is no such device", "Enrol first."),
    Reason.DEVICE_BANNED: _problem(403, "A person has banned this device", _OPERATOR),
    Reason.DEVICE_RETIRED: _problem(403, "This device is retired", _OPERATOR),
    Reason.ENROLMENT_NEEDED: _problem(403, "The device's trust has ended", _ENROL),
    Reason.INVENTORY_WITHDRAWN: _problem(403, "The device's inventory entry was withdrawn", _OPERATOR),
    Reason.INVENTORY_CLAIMED: _problem(409, "The inventory entry belongs to another device", _OPERATOR),
    Reason.GRANT_INVALID: _problem(403, "There is no grant for this", _ENROL),
    Reason.GRANT_USED: _problem(409, "The grant was used already", _ENROL),
    Reason.GRANT_EXPIRED: _problem(409, "The grant has expired", _ENROL),
    Reason.ADDRESSES_EXHAUSTED: _problem(503, "No tunnel address is free", _OPERATOR),
    Reason.TOKEN_MISSING: _problem(
        401, "A bearer token is required", "Ask the operator for one: attestd token create."
    ),
    Reason.TOKEN_INVALID: _problem(
        401, "The bearer token is not valid", "Ask the operator for one: attestd token create."
    ),
    Reason.TOKEN_SCOPE: _problem(
        403, "The bearer token does not allow this", "Ask the operator for a token with that scope."
    ),
}
"""The one table from reason to problem; a test holds it complete."""

PROBLEM_TYPE_PREFIX = "urn:attestd:problem:"
"""`type` member of the problem document: this prefix and the code."""
