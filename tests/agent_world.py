"""A TPM and a verifier in software, for tests of the agent: real keys, real signatures, real messages.

The TPM signs what a chip would sign; the verifier checks every binding with the protocol's own function and answers what
the test puts into its script. What a real verifier makes of the same agent is the integration tests' affair.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

import tpm_structures as structures
from attestd.protocol.binding import Purpose, qualifying_data
from attestd.protocol.codec import CBOR, decode, encode
from attestd.protocol.messages import (
    PATH_ATTEST,
    PATH_ENROL,
    PATH_ENROL_PROOF,
    WIREGUARD,
    Attested,
    AttestRequest,
    Challenge,
    EnrolChallenge,
    Enrolled,
    EnrolProof,
    EnrolRequest,
    Next,
    QuoteRequest,
    VpnCredential,
    VpnPeer,
)
from attestd_agent import identity
from attestd_agent.errors import Problem
from attestd_agent.tpm import Certification, KeyBlob, QuoteResult, TpmRefused

M = TypeVar("M")
SERVER = "verifier.example"
PCRS = (0, 1, 2, 3, 4, 5, 6, 7, 10)
GATEWAY_KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="


class SoftTpm:
    """A TPM whose registers and reset count the test sets; `failure` makes every command fail."""

    def __init__(self) -> None:
        self._ek = ec.generate_private_key(ec.SECP256R1())
        self._ak = ec.generate_private_key(ec.SECP256R1())
        self.registers = {index: bytes([index]) * 32 for index in range(24)}
        self.resets = 1
        self.clock = 1000
        self.failure: Exception | None = None
        self.sealed: list[bytes] = []
        self.closed = 0
        self.on_quote: Callable[[], None] = lambda: None

    def ek_public(self) -> bytes:
        self._command()
        return structures.sized(structures.ek_area(self._ek))

    def ek_certificates(self) -> tuple[bytes, ...]:
        return (b"\x30\x03\x02\x01\x00",)

    def ak_public(self) -> bytes:
        return structures.sized(structures.ecc_area(self._ak))

    def activate(self, credential_blob: bytes, encrypted_secret: bytes) -> bytes:
        self._command()
        return hashlib.sha256(credential_blob + encrypted_secret).digest()

    def create_device_key(self) -> KeyBlob:
        self._command()
        key = ec.generate_private_key(ec.SECP256R1())
        area = structures.ecc_area(key, attributes=structures.AK_ATTRIBUTES & ~(1 << 16), scheme=structures.NULL)
        return KeyBlob(structures.sized(area), structures.sized(os.urandom(64)))

    def certify(self, key: KeyBlob, qualifying: bytes) -> Certification:
        self._command()
        name = structures.sized(identity.name_of(key.public))
        attest = structures.attest_head(0x8017, nonce=qualifying, clock=self.clock, resets=self.resets) + name * 2
        return Certification(attest, structures.ecdsa_signature(self._ak, attest))

    def quote(self, qualifying: bytes, *, bank: str, pcrs: tuple[int, ...]) -> QuoteResult:
        self._command()
        values = tuple((index, self.registers[index]) for index in pcrs)
        digest = hashlib.sha256(b"".join(value for _, value in values)).digest()
        attest = structures.quote(
            ((structures.SHA256_ID, pcrs),), digest=digest, nonce=qualifying, clock=self.clock, resets=self.resets
        )
        self.on_quote()
        return QuoteResult(attest, structures.ecdsa_signature(self._ak, attest), values)

    def sign(self, key: KeyBlob, digest: bytes) -> bytes:
        raise NotImplementedError

    def seal(self, secret: bytes) -> KeyBlob:
        self._command()
        self.sealed.append(secret)
        number = len(self.sealed) - 1
        return KeyBlob(b"sealed", number.to_bytes(2, "big") + hashlib.sha256(secret).digest())

    def unseal(self, blob: KeyBlob) -> bytes:
        self._command()
        if blob.public != b"sealed":
            raise TpmRefused("foreign_blob", "made by another TPM")
        return self.sealed[int.from_bytes(blob.private[:2], "big")]

    def close(self) -> None:
        self.closed += 1

    def _command(self) -> None:
        self.clock += 10
        if self.failure:
            raise self.failure


@dataclass
class SoftVerifier:
    """A transport whose other end is here. `script` holds problems or exceptions to answer with before behaving."""

    server: str = SERVER
    script: list[Problem | Exception] = field(default_factory=list)
    state: str = "trusted"
    requests: list[Any] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    keys: dict[str, EnrolRequest] = field(default_factory=dict)
    nonces: list[bytes] = field(default_factory=list)
    closed: int = 0
    interval: int = 60

    def ask(self, path: str, body: bytes, *, answer: type[M]) -> M | Problem:
        message: Any = decode(
            {PATH_ENROL: EnrolRequest, PATH_ENROL_PROOF: EnrolProof, PATH_ATTEST: AttestRequest}[path], body, CBOR
        )
        self.requests.append(message)
        self.sizes.append(len(body))
        if self.script:
            scripted = self.script.pop(0)
            if isinstance(scripted, Exception):
                raise scripted
            return scripted
        behave: dict[type, Callable[[Any], Any]] = {
            EnrolRequest: self.challenge,
            EnrolProof: self.enrol,
            AttestRequest: self.attest,
        }
        made = behave[type(message)](message)
        return decode(answer, encode(made, CBOR), CBOR)

    def close(self) -> None:
        self.closed += 1

    def challenge(self, _request: EnrolRequest) -> EnrolChallenge:
        challenges = tuple(Challenge(name, self.nonce(), os.urandom(40), os.urandom(60)) for name in ("one", "two"))
        self.offered = challenges
        return EnrolChallenge(challenges, QuoteRequest("sha256", PCRS), 120)

    def enrol(self, proof: EnrolProof) -> Enrolled:
        request = decode(EnrolRequest, proof.request, CBOR)
        nonces = tuple(one.nonce for one in self.offered)
        for signed, purpose in ((proof.certify, Purpose.ENROL_CERTIFY), (proof.quote, Purpose.ENROL_QUOTE)):
            assert extra_data(signed.attest) == self.binding(purpose, request, nonces)
        assert [one.secret for one in proof.activations] == [
            hashlib.sha256(one.credential_blob + one.encrypted_secret).digest() for one in self.offered
        ]
        device_id = identity.device_id(request.ek_public)
        self.keys[device_id] = request
        return Enrolled(device_id, self.state, "jwt", (b"leaf", b"root"), self.next(), self.vpn(request))

    def attest(self, request: AttestRequest) -> Attested:
        assert request.nonce in self.nonces, "a nonce that nobody gave"
        bound = self.binding(Purpose.ATTEST_QUOTE, self.keys[request.device_id], (request.nonce,))
        assert extra_data(request.quote.attest) == bound
        return Attested(self.state, "jwt", self.next())

    def binding(self, purpose: Purpose, request: EnrolRequest, nonces: tuple[bytes, ...]) -> bytes:
        assert request.server == self.server
        return qualifying_data(
            purpose,
            server=self.server,
            nonces=nonces,
            device_id=identity.device_id(request.ek_public),
            device_key_name=structures.name_of(request.device_key[2:]),
            vpn_keys=request.vpn_keys,
        )

    def vpn(self, request: EnrolRequest) -> tuple[VpnCredential, ...]:
        peer = VpnPeer(GATEWAY_KEY, "vpn.example:51820", ("100.64.0.0/10",), 25)
        return (VpnCredential(WIREGUARD, dict(request.vpn_keys)[WIREGUARD], ("100.64.0.7/32",), (peer,), ""),)

    def next(self) -> Next:
        return Next(self.nonce(), self.interval, 3 * self.interval)

    def nonce(self) -> bytes:
        self.nonces.append(os.urandom(32))
        return self.nonces[-1]

    def problem(self, code: str, *, status: int = 409, nonce: bool = False, retry_after: int | None = None) -> Problem:
        """Return a problem to put into the script, with a fresh nonce if wanted."""
        return Problem(status, code, "title", nonce=self.nonce() if nonce else None, retry_after=retry_after)

    @property
    def last(self) -> Any:
        return self.requests[-1]


def extra_data(attest: bytes) -> bytes:
    """Return the qualifying data in a TPMS_ATTEST."""
    reader = identity.Reader(attest)
    reader.take(6)
    reader.sized()
    return reader.sized()
