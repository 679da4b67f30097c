"""One whole exchange between a device and a verifier, the same bytes every time: the examples of docs/protocol.md.

Every key, nonce and signature derives from a label, so that whoever writes a client from the document can compare byte for
byte. There is one for each encoding: the first message's bytes go into the challenge, and from there into everything else.
The functions are the verifier's own, and test_worked_exchange.py holds the result against its checks. The keys are public by
construction and belong nowhere else.
"""

import datetime
import hashlib
from dataclasses import dataclass
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

import cert_forge
import tpm_structures as marshal
from architecture.worked_answers import Subject, certificate_chain, result
from architecture.worked_keys import PRIVATE, key, seed
from attestd.appraisal.appraise import evidence_digest
from attestd.evidence.challenge import Challenger
from attestd.protocol import codec, messages
from attestd.protocol.binding import Purpose, qualifying_data
from attestd.protocol.messages import WIREGUARD, SignedAttest
from attestd.tpm.credential import make_credential
from attestd.tpm.eventlog import parse_event_log, replay
from attestd.tpm.pcr import extend, pcr_digest
from attestd.tpm.public import Attribute, Public, parse_public, spki
from attestd_agent.lab import ima
from attestd_agent.lab.firmware import BootImage, simulate_boot
from attestd_pki import names

SERVER = "verifier.fleet.example"
BANK = "sha256"
PCRS = tuple(range(15))
SENT_MS = 1_795_350_000_000
_CERTIFY = 0x8017
_DEVICE_ATTRIBUTES = (
    Attribute.FIXED_TPM
    | Attribute.FIXED_PARENT
    | Attribute.SENSITIVE_DATA_ORIGIN
    | Attribute.USER_WITH_AUTH
    | Attribute.NO_DA
    | Attribute.SIGN
)


def sign(signer: ec.EllipticCurvePrivateKey, attest: bytes) -> SignedAttest:
    """Return the structure and its TPMT_SIGNATURE, with the deterministic ECDSA of RFC 6979."""
    r, s = decode_dss_signature(signer.sign(attest, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
    return SignedAttest(attest, marshal.ecdsa_octets(r, s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """Everything that crosses the wire, and what it is made of."""

    media_type: str
    ek: Public
    ak: Public
    device_key: Public
    device_id: str
    request: messages.EnrolRequest
    request_bytes: bytes
    challenge: messages.EnrolChallenge
    secret: bytes
    certify_binding: bytes
    quote_binding: bytes
    proof: messages.EnrolProof
    enrolled: messages.Enrolled
    attest_binding: bytes
    attest: messages.AttestRequest
    attest_after_reboot: messages.AttestRequest
    attested: messages.Attested

    def by_name(self) -> tuple[tuple[str, object], ...]:
        """Return (name of the message, message) in the order in which they are sent."""
        return (
            ("EnrolRequest", self.request),
            ("EnrolChallenge", self.challenge),
            ("EnrolProof", self.proof),
            ("Enrolled", self.enrolled),
            ("AttestRequest", self.attest),
            ("AttestRequest after a reboot", self.attest_after_reboot),
            ("Attested", self.attested),
        )


@cache
def worked_exchange(media_type: str = codec.CBOR) -> Exchange:
    """Return the exchange whose enrolment is spoken in one encoding."""
    ek, ak, device_key = (parse_public(marshal.sized(area)) for area in _areas())
    device_id = names.device_id(spki(ek))
    vpn_key = X25519PrivateKey.from_private_bytes(PRIVATE["tunnel key"]).public_key().public_bytes_raw()
    request = messages.EnrolRequest(
        server=SERVER,
        ek_public=marshal.sized(ek.area),
        ak_public=marshal.sized(ak.area),
        device_key=marshal.sized(device_key.area),
        vpn_keys=((WIREGUARD, vpn_key),),
        ek_certificates=(_ek_certificate(),),
        labels=(("hostname", "edge-17"), ("serial", "LAB-0017")),
    )
    request_bytes = codec.encode(request, media_type)
    challenger = Challenger("attestd", seed("challenger"))
    challenge, secret = _challenge(challenger, ek, ak, hashlib.sha256(request_bytes).digest())
    nonce = challenge.challenges[0].nonce

    def bound(purpose: Purpose, over: bytes) -> bytes:
        return qualifying_data(
            purpose,
            server=SERVER,
            nonces=[over],
            device_id=device_id,
            device_key_name=device_key.name,
            vpn_keys=request.vpn_keys,
        )

    certify_binding, quote_binding = bound(Purpose.ENROL_CERTIFY, nonce), bound(Purpose.ENROL_QUOTE, nonce)
    log, runtime, pcrs = _booted()
    proof = messages.EnrolProof(
        request=request_bytes,
        activations=(messages.Activation("attestd", nonce, secret),),
        certify=sign(key("attestation key"), _certified(ak, device_key, certify_binding)),
        quote=sign(key("attestation key"), _quoted(ak, quote_binding, pcrs, clock=86_400_000, resets=7)),
        pcrs=tuple(messages.PcrValue(index, value) for index, value in pcrs),
        event_log=log,
        runtime=runtime,
    )
    first, second, third = (_next(challenger, device_id, count) for count in (1, 2, 3))
    attest_binding = bound(Purpose.ATTEST_QUOTE, first.nonce)
    attest = messages.AttestRequest(
        device_id=device_id,
        server=SERVER,
        nonce=first.nonce,
        quote=sign(key("attestation key"), _quoted(ak, attest_binding, pcrs, clock=86_460_000, resets=7)),
        log=hashlib.sha256(log).digest(),
    )
    rebooted = messages.AttestRequest(
        device_id=device_id,
        server=SERVER,
        nonce=second.nonce,
        quote=sign(
            key("attestation key"),
            _quoted(ak, bound(Purpose.ATTEST_QUOTE, second.nonce), pcrs, clock=86_520_000, resets=8),
        ),
        log=hashlib.sha256(log).digest(),
        pcrs=proof.pcrs,
        event_log=log,
        runtime=runtime,
        rebooted=True,
    )

    def judged(signed: SignedAttest, over: bytes, at: int) -> str:
        digest = _evidence(signed, log, dict(pcrs)[10])
        return result(device_id, digest, nonce=over, now=at // 1000)

    subject = Subject(device_id, ak.name, spki(device_key), request.vpn_keys)
    chain = certificate_chain(subject, _evidence(proof.quote, log, dict(pcrs)[10]), now=SENT_MS // 1000)
    return Exchange(
        media_type=media_type,
        ek=ek,
        ak=ak,
        device_key=device_key,
        device_id=device_id,
        request=request,
        request_bytes=request_bytes,
        challenge=challenge,
        secret=secret,
        certify_binding=certify_binding,
        quote_binding=quote_binding,
        proof=proof,
        enrolled=_enrolled(device_id, vpn_key, first, chain, judged(proof.quote, nonce, SENT_MS)),
        attest_binding=attest_binding,
        attest=attest,
        attest_after_reboot=rebooted,
        attested=messages.Attested(
            "trusted", judged(rebooted.quote, second.nonce, SENT_MS + 120_000), third, changed=("rebooted",)
        ),
    )


def _evidence(signed: SignedAttest, log: bytes, runtime_value: bytes) -> bytes:
    attest = hashlib.sha256(signed.attest).digest()
    return evidence_digest(attest, log_digest=hashlib.sha256(log).digest(), runtime_value=runtime_value)


def _areas() -> tuple[bytes, bytes, bytes]:
    """Return TPMT_PUBLIC of the endorsement key (EK Credential Profile, template L-2), the AK and the device key."""
    return (
        marshal.ecc_area(
            key("endorsement key"),
            attributes=marshal.EK_ATTRIBUTES,
            scheme=marshal.NULL,
            symmetric=marshal.aes_cfb(128),
            policy=marshal.EK_POLICY,
        ),
        marshal.ecc_area(key("attestation key"), attributes=marshal.AK_ATTRIBUTES | int(Attribute.NO_DA)),
        marshal.ecc_area(key("device key"), attributes=int(_DEVICE_ATTRIBUTES), scheme=marshal.NULL),
    )


def _challenge(
    challenger: Challenger, ek: Public, ak: Public, request_digest: bytes
) -> tuple[messages.EnrolChallenge, bytes]:
    nonce = challenger.enrol_nonce(
        request_digest, random=seed("nonce 0")[:16], issued_ms=SENT_MS, expires_ms=SENT_MS + 120_000
    )
    secret = challenger.activation_secret(nonce, request_digest)
    blob, encrypted = make_credential(ek, ak.name, secret, seed=seed("unused"), ephemeral=key("ephemeral key"))
    return (
        messages.EnrolChallenge(
            challenges=(messages.Challenge(challenger.name, nonce, blob, encrypted),),
            quote=messages.QuoteRequest(BANK, PCRS),
            expires_in=120,
        ),
        secret,
    )


def _ek_certificate() -> bytes:
    """Return an endorsement key certificate by a manufacturer that does not exist (EK Credential Profile 2.5, 3.2)."""
    begin = datetime.datetime.fromtimestamp(SENT_MS // 1000 - 86_400, datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(cert_forge.name("Example TPM CA"))
        .public_key(key("endorsement key").public_key())
        .serial_number(17)
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=3650))
    )
    for extension, critical in cert_forge.EK:
        builder = builder.add_extension(extension, critical=critical)
    made = builder.sign(key("manufacturer"), hashes.SHA256(), ecdsa_deterministic=True)
    return made.public_bytes(Encoding.DER)


def _booted() -> tuple[bytes, messages.RuntimeList, tuple[tuple[int, bytes], ...]]:
    """Return the boot log, the runtime list and the registers after both."""
    log = simulate_boot(BootImage()).event_log
    values = {index: bytes(32) for index in PCRS} | dict(replay(parse_event_log(log), BANK).pcrs)
    entries = (
        ima.boot_aggregate(tuple(values[index] for index in range(10))),
        ima.measured_file("/usr/bin/true", b"an example of a program"),
    )
    for index, digests in ima.extends(entries):
        values[index] = extend(BANK, values[index], digests[BANK])
    return log, messages.RuntimeList(0, ima.encode_list(entries)), tuple((index, values[index]) for index in PCRS)


def _quoted(ak: Public, binding: bytes, pcrs: tuple[tuple[int, bytes], ...], *, clock: int, resets: int) -> bytes:
    return marshal.quote(
        ((marshal.SHA256_ID, PCRS),),
        digest=pcr_digest((value for _, value in pcrs), BANK),
        signer=_qualified_name(ak),
        nonce=binding,
        clock=clock,
        resets=resets,
        restarts=0,
    )


def _certified(ak: Public, certified: Public, binding: bytes) -> bytes:
    head = marshal.attest_head(
        _CERTIFY, signer=_qualified_name(ak), nonce=binding, clock=86_399_000, resets=7, restarts=0
    )
    return head + marshal.sized(certified.name) + marshal.sized(_qualified_name(certified))


def _qualified_name(public: Public) -> bytes:
    """Return the name of a primary key of the endorsement hierarchy, qualified (TPM 2.0 Part 1, 16)."""
    endorsement = (0x4000000B).to_bytes(4, "big")
    return marshal.u16(marshal.SHA256_ID) + hashlib.sha256(endorsement + public.name).digest()


def _next(challenger: Challenger, device_id: str, count: int) -> messages.Next:
    """Return what the answer number `count` says of the proof after it: an answer a minute, the first one at once."""
    issued = SENT_MS + (count - 1) * 60_000
    deadline = SENT_MS + max(0, count - 2) * 60_000 + 300_000  # counted from the nonce of the proof before
    nonce = challenger.attest_nonce(
        device_id, random=seed(f"nonce {count}")[:16], issued_ms=issued, expires_ms=deadline
    )
    return messages.Next(nonce, interval=60, deadline=(deadline - issued) // 1000)


def _enrolled(
    device_id: str, vpn_key: bytes, following: messages.Next, chain: tuple[bytes, ...], said: str
) -> messages.Enrolled:
    addresses = ("100.64.0.17/32", "fd00:a77e:57d0:0:3c1f:9d2a:77b0:4e11/128")
    gateway = "3vGc2qXk5Z0mYt8pWn4uRj6sLhQbEa1oVdTfCiNxKzM="
    peer = messages.VpnPeer(gateway, "vpn.fleet.example:51820", ("100.64.0.0/10",), 25)
    config = (
        f"[Interface]\nAddress = {', '.join(addresses)}\n\n[Peer]\nPublicKey = {gateway}\n"
        "Endpoint = vpn.fleet.example:51820\nAllowedIPs = 100.64.0.0/10\nPersistentKeepalive = 25\n"
    )
    return messages.Enrolled(
        device_id=device_id,
        state="trusted",
        result=said,
        certificate_chain=chain,
        next=following,
        vpn=(messages.VpnCredential(WIREGUARD, vpn_key, addresses, (peer,), config),),
    )
