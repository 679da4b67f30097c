"""Every message between a device and the verifier; docs/protocol.md shows an example of each.

Nothing here is trusted: a message that decodes has its form and nothing more.
"""

from dataclasses import dataclass
from typing import Final

from attestd.protocol import limits
from attestd.protocol.codec import Kind, array, boolean, document, integer, mapping, octets, shape, text

PATH_ENROL: Final = "/v1/enrol"
PATH_ENROL_PROOF: Final = "/v1/enrol/proof"
PATH_ATTEST: Final = "/v1/attest"
PATH_ANCHOR: Final = "/v1/trust-anchor"
PATH_CRL: Final = "/v1/crl"

WIREGUARD: Final = "wireguard"
"""The kind of a WireGuard key: 32 bytes, X25519."""

_STRUCTURE: Kind = octets(2, limits.MAX_TPM_STRUCTURE)
_NONCE: Kind = octets(limits.MIN_NONCE, limits.MAX_NONCE)
_DIGEST: Kind = octets(20, 64)
_KIND: Kind = text(32)
_LABEL: Kind = text(limits.MAX_TEXT)


@dataclass(frozen=True, slots=True)
class SignedAttest:
    """A TPMS_ATTEST as the TPM gave it, and the TPMT_SIGNATURE over exactly these bytes."""

    attest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class PcrValue:
    """One register of the quoted bank: its index (0 to 23) and its value."""

    index: int
    value: bytes


@dataclass(frozen=True, slots=True)
class RuntimeList:
    """Entries of the kernel's IMA list from entry `offset` on, in the kernel's binary form."""

    offset: int
    entries: bytes


@dataclass(frozen=True, slots=True)
class EnrolRequest:
    """First message of an enrolment: who the device says it is. All public areas are TPM2B_PUBLIC.

    `server` is the name under which the device verified this server's certificate. `labels` (hostname, serial, …) help
    people and decide nothing.
    """

    server: str
    ek_public: bytes
    ak_public: bytes
    device_key: bytes
    vpn_keys: tuple[tuple[str, bytes], ...]
    ek_certificates: tuple[bytes, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenger's part: its nonce, and its secret wrapped for the endorsement key and the attestation key's name.

    `credential_blob` is a TPM2B_ID_OBJECT and `encrypted_secret` a TPM2B_ENCRYPTED_SECRET, as TPM2_ActivateCredential takes them.
    """

    challenger: str
    nonce: bytes
    credential_blob: bytes
    encrypted_secret: bytes


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """What to quote: one bank, and the indices in rising order."""

    bank: str
    pcrs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EnrolChallenge:
    """The verifier's answer: a list of challenges (each is to be answered), what to quote, and the seconds that are left."""

    challenges: tuple[Challenge, ...]
    quote: QuoteRequest
    expires_in: int


@dataclass(frozen=True, slots=True)
class Activation:
    """The secret that TPM2_ActivateCredential gave for one challenger, and that challenger's nonce."""

    challenger: str
    nonce: bytes
    secret: bytes


@dataclass(frozen=True, slots=True)
class EnrolProof:
    """Second message: the first one verbatim (`request`, its bytes as they were sent, in the encoding of this one), and all proofs.

    `certify` is TPM2_Certify of the device key by the attestation key, `quote` TPM2_Quote; both over the binding of this
    enrolment. `pcrs` has exactly the quoted registers.
    """

    request: bytes
    activations: tuple[Activation, ...]
    certify: SignedAttest
    quote: SignedAttest
    pcrs: tuple[PcrValue, ...]
    event_log: bytes
    runtime: RuntimeList | None = None


@dataclass(frozen=True, slots=True)
class VpnPeer:
    """A gateway as the device must configure it."""

    public_key: str
    endpoint: str
    allowed_ips: tuple[str, ...]
    persistent_keepalive: int


@dataclass(frozen=True, slots=True)
class VpnCredential:
    """What a device needs for its tunnel. `config` is the same in the format of wg-quick(8), without the private key."""

    kind: str
    public_key: bytes
    addresses: tuple[str, ...]
    peers: tuple[VpnPeer, ...]
    config: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a verdict is not affirming: what a person needs to repair the device, and never an expected value.

    `expected` is the class of what was expected ("a kernel that the profile lists"), `event` the index in the device's own log.
    """

    code: str
    claim: str
    component: str
    expected: str
    pcr: int | None = None
    event: int | None = None


@dataclass(frozen=True, slots=True)
class Next:
    """When and over which nonce to prove again. A device silent for longer than `deadline` seconds loses its trust."""

    nonce: bytes
    interval: int
    deadline: int


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The verifier's answer to a passing proof. `certificate_chain` is DER, the device's own first; `result` an EAR (JWT)."""

    device_id: str
    state: str
    result: str
    certificate_chain: tuple[bytes, ...]
    next: Next
    vpn: tuple[VpnCredential, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class AttestRequest:
    """A known device proves itself again, in one round trip.

    `log` is the SHA-256 of the boot log that the verifier has, or comes with the log itself in `event_log` (after a reboot).
    `pcrs` is absent while the quoted registers are the ones of the last proof. `rebooted` announces a reset of the TPM.
    """

    device_id: str
    server: str
    nonce: bytes
    quote: SignedAttest
    log: bytes
    pcrs: tuple[PcrValue, ...] = ()
    event_log: bytes | None = None
    runtime: RuntimeList | None = None
    rebooted: bool = False


@dataclass(frozen=True, slots=True)
class Attested:
    """The verifier's answer: the result, what changed since the last proof, a new certificate when one is due."""

    state: str
    result: str
    next: Next
    changed: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    certificate_chain: tuple[bytes, ...] = ()


_SIGNED = shape(SignedAttest, {"attest": _STRUCTURE, "signature": _STRUCTURE})
_PCR = shape(PcrValue, {"index": integer(0, limits.PCR_COUNT - 1), "value": _DIGEST})
_PCRS = array(_PCR, limits.PCR_COUNT)
_RUNTIME = shape(RuntimeList, {"offset": integer(0, limits.MAX_IMA_ENTRIES), "entries": octets(0, limits.MAX_IMA_LIST)})
shape(
    EnrolRequest,
    {
        "server": text(255),
        "ek_public": _STRUCTURE,
        "ak_public": _STRUCTURE,
        "device_key": _STRUCTURE,
        "vpn_keys": mapping(octets(16, 256), limits.MAX_VPN_KEYS, _KIND),
    },
    {
        "ek_certificates": array(octets(1, limits.MAX_CERTIFICATE), limits.MAX_EK_CERTIFICATES),
        "labels": mapping(_LABEL, limits.MAX_LABELS, _KIND),
    },
)
_CHALLENGE = shape(
    Challenge, {"challenger": _KIND, "nonce": _NONCE, "credential_blob": _STRUCTURE, "encrypted_secret": _STRUCTURE}
)
_QUOTE = shape(QuoteRequest, {"bank": _KIND, "pcrs": array(integer(0, limits.PCR_COUNT - 1), limits.PCR_COUNT, 1)})
shape(
    EnrolChallenge,
    {"challenges": array(_CHALLENGE, limits.MAX_CHALLENGERS, 1), "quote": _QUOTE, "expires_in": integer(0, 3600)},
)
_ACTIVATION = shape(Activation, {"challenger": _KIND, "nonce": _NONCE, "secret": octets(0, 64)})
shape(
    EnrolProof,
    {
        "request": octets(1, limits.MAX_ANONYMOUS_BODY),
        "activations": array(_ACTIVATION, limits.MAX_CHALLENGERS, 1),
        "certify": _SIGNED,
        "quote": _SIGNED,
        "pcrs": _PCRS,
        "event_log": octets(0, limits.MAX_EVENT_LOG),
    },
    {"runtime": _RUNTIME},
)
_PEER = shape(
    VpnPeer,
    {
        "public_key": text(64),
        "endpoint": text(300),
        "allowed_ips": array(text(64), 64),
        "persistent_keepalive": integer(0, 65535),
    },
)
_VPN = shape(
    VpnCredential,
    {
        "kind": _KIND,
        "public_key": octets(16, 256),
        "addresses": array(text(64), 8),
        "peers": array(_PEER, 64),
        "config": document(64 * limits.KIB),
    },
)
_FINDING = shape(
    Finding,
    {"code": text(64), "claim": text(128), "component": text(1024, 0), "expected": text(1024, 0)},
    {"pcr": integer(0, 23), "event": integer(0, limits.MAX_EVENTS)},
)
_NEXT = shape(Next, {"nonce": _NONCE, "interval": integer(1), "deadline": integer(1)})
_CHAIN = array(octets(1, limits.MAX_CERTIFICATE), limits.MAX_CHAIN_DEPTH)
shape(
    Enrolled,
    {
        "device_id": text(64),
        "state": _KIND,
        "result": text(64 * limits.KIB),
        "certificate_chain": _CHAIN,
        "next": _NEXT,
    },
    {"vpn": array(_VPN, limits.MAX_VPN_KEYS), "findings": array(_FINDING, 256)},
    items=limits.MAX_ANSWER_ITEMS,
)
shape(
    AttestRequest,
    {"device_id": text(64), "server": text(255), "nonce": _NONCE, "quote": _SIGNED, "log": octets(32, 32)},
    {
        "pcrs": _PCRS,
        "event_log": octets(0, limits.MAX_EVENT_LOG),
        "runtime": _RUNTIME,
        "rebooted": boolean,
    },
)
shape(
    Attested,
    {"state": _KIND, "result": text(64 * limits.KIB), "next": _NEXT},
    {"changed": array(text(256), 64), "findings": array(_FINDING, 256), "certificate_chain": _CHAIN},
    items=limits.MAX_ANSWER_ITEMS,
)
