"""A device in software whose every byte can be bent: keys of a TPM, registers, a clock, a boot log.

The keys are real and so are the signatures; what is missing is only the chip that would refuse to sign a lie. That makes it
the attacker's tool: whoever holds such a chip's keys can send whatever no real TPM would.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import cert_forge
import tpm_structures as tpm
from activation import activate
from attestd.protocol.binding import Purpose, qualifying_data
from attestd.protocol.messages import (
    WIREGUARD,
    Activation,
    AttestRequest,
    EnrolChallenge,
    EnrolProof,
    EnrolRequest,
    PcrValue,
    SignedAttest,
)
from attestd_agent.lab.firmware import BootImage, simulate_boot
from attestd_pki import names

SERVER = "localhost"
PCRS = tuple(range(15))
NO_DA = 1 << 10
DEVICE_KEY_ATTRIBUTES = tpm.AK_ATTRIBUTES & ~(1 << 16)
AK_NAME_ALGORITHM = tpm.SHA256_ID


@dataclass(frozen=True)
class Maker:
    """A manufacturer of chips: a root, and how its endorsement key certificates look."""

    root: cert_forge.Plan

    @property
    def anchor(self) -> bytes:
        """The root certificate (DER)."""
        return cert_forge.make(self.root).der

    def certify(self, key: Any, *, now_s: int, **changes: Any) -> bytes:
        """Return an endorsement key certificate (DER) for `key`, with a plan's fields changed."""
        usage = "key_encipherment" if isinstance(key, rsa.RSAPrivateKey) else "key_agreement"
        extensions = tuple(
            (cert_forge.usage(usage), True) if isinstance(value, x509.KeyUsage) else (value, critical)
            for value, critical in cert_forge.EK
        )
        plan = cert_forge.Plan("", key, extensions, not_before=now_s - 86_400, not_after=now_s + 86_400 * 3650)
        return cert_forge.make(replace(plan, **changes), self.root).der


GOOD_MAKER = Maker(replace(cert_forge.ROOT, not_before=0, not_after=4_000_000_000))
UNKNOWN_MAKER = Maker(
    cert_forge.Plan(
        "Unheard Of TPM Root", cert_forge.ec_key(4711), cert_forge.CA, not_before=0, not_after=4_000_000_000
    )
)


@dataclass
class SoftChip:
    """One device. Change any attribute to make it lie."""

    now_s: int
    maker: Maker = GOOD_MAKER
    ek: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    ak: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    device_key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    wireguard: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    image: BootImage = field(default_factory=BootImage)
    server: str = SERVER
    clock: int = 1_000
    reset_count: int = 1
    restart_count: int = 0
    firmware: int = 0x2023_0101_0000_0001
    rebooted: bool = False

    def __post_init__(self) -> None:
        self.ek_area = tpm.ek_area(self.ek)
        self.ak_area = tpm.rsa_area(self.ak) if isinstance(self.ak, rsa.RSAPrivateKey) else tpm.ecc_area(self.ak)
        self.device_key_area = tpm.ecc_area(self.device_key, attributes=DEVICE_KEY_ATTRIBUTES, scheme=tpm.NULL)
        self.certificates: tuple[bytes, ...] = (self.maker.certify(self.ek, now_s=self.now_s),)
        self.runtime = None
        self.boot()

    # --- What the machine does ------------------------------------------------------------------------------------

    def boot(self, image: BootImage | None = None) -> None:
        """Boot: registers are cleared and extended from the image's log; the reset count moves on."""
        self.image = image or self.image
        booted = simulate_boot(self.image)
        self.event_log = booted.event_log
        self.registers = {index: bytes(32) for index in range(24)}
        for index, digests in booted.extends:
            self.registers[index] = hashlib.sha256(self.registers[index] + digests["sha256"]).digest()
        self.reset_count += 1
        self.clock += 5_000

    def renew_keys(self) -> None:
        """Make a new device key and a new tunnel key, as before each enrolment."""
        self.device_key = ec.generate_private_key(ec.SECP256R1())
        self.device_key_area = tpm.ecc_area(self.device_key, attributes=DEVICE_KEY_ATTRIBUTES, scheme=tpm.NULL)
        self.wireguard = X25519PrivateKey.generate()

    @property
    def device_id(self) -> str:
        """The id that follows from the endorsement key."""
        return names.device_id(self.ek.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    @property
    def ek_digest(self) -> str:
        """Hexadecimal SHA-256 of the endorsement key's SubjectPublicKeyInfo."""
        spki = self.ek.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(spki).hexdigest()

    @property
    def vpn_keys(self) -> tuple[tuple[str, bytes], ...]:
        """The tunnel keys as a message carries them."""
        return ((WIREGUARD, self.wireguard.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)),)

    def values(self, pcrs: tuple[int, ...] = PCRS) -> tuple[PcrValue, ...]:
        """The registers as a message carries them."""
        return tuple(PcrValue(index, self.registers[index]) for index in pcrs)

    # --- What the chip signs --------------------------------------------------------------------------------------

    def sign(self, message: bytes, key: Any = None) -> bytes:
        """Return a TPMT_SIGNATURE by the attestation key, or by another."""
        key = key or self.ak
        return (
            tpm.rsa_signature(key, message) if isinstance(key, rsa.RSAPrivateKey) else tpm.ecdsa_signature(key, message)
        )

    def head(self) -> dict[str, Any]:
        """The clock as an attestation carries it; every attestation is a little later."""
        self.clock += 10
        return {
            "clock": self.clock,
            "resets": self.reset_count,
            "restarts": self.restart_count,
            "firmware": self.firmware,
        }

    def quote(self, nonce: bytes, *, pcrs: tuple[int, ...] = PCRS, key: Any = None, **changes: Any) -> SignedAttest:
        """Return a quote over qualifying data; `changes` are arguments of `tpm_structures.quote` and of its head."""
        digest = hashlib.sha256(b"".join(self.registers[index] for index in pcrs)).digest()
        fields = {"digest": digest, **self.head(), **changes}
        banks = fields.pop("banks", ((tpm.SHA256_ID, pcrs),))
        attest = tpm.quote(banks, nonce=nonce, **fields)
        return SignedAttest(attest, self.sign(attest, key))

    def certify(self, nonce: bytes, *, area: bytes | None = None, key: Any = None, **changes: Any) -> SignedAttest:
        """Return the attestation key's statement that the device key (or `area`) is in this chip."""
        name = tpm.name_of(area or self.device_key_area)
        attest = tpm.attest_head(0x8017, nonce=nonce, **{**self.head(), **changes}) + tpm.sized(name) + tpm.sized(name)
        return SignedAttest(attest, self.sign(attest, key))

    def activate(self, blob: bytes, encrypted: bytes) -> bytes:
        """TPM2_ActivateCredential."""
        return activate(self.ek, tpm.name_of(self.ak_area), blob, encrypted, digest=hashes.SHA256(), aes_bits=128)

    # --- The messages ---------------------------------------------------------------------------------------------

    def request(self, **changes: Any) -> EnrolRequest:
        """Return the first message."""
        made = EnrolRequest(
            server=self.server,
            ek_public=tpm.sized(self.ek_area),
            ak_public=tpm.sized(self.ak_area),
            device_key=tpm.sized(self.device_key_area),
            vpn_keys=self.vpn_keys,
            ek_certificates=self.certificates,
            labels=(("hostname", "soft"),),
        )
        return replace(made, **changes)

    def bound(self, purpose: Purpose, nonces: tuple[bytes, ...], **changes: Any) -> bytes:
        """Return the qualifying data for an exchange, honest unless changed."""
        fields = {
            "server": self.server,
            "nonces": nonces,
            "device_id": self.device_id,
            "device_key_name": tpm.name_of(self.device_key_area),
            "vpn_keys": self.vpn_keys,
            **changes,
        }
        return qualifying_data(purpose, **fields)

    def proof(self, body: bytes, challenge: EnrolChallenge, **changes: Any) -> EnrolProof:
        """Return the second message; `changes` replace its fields."""
        nonces = tuple(one.nonce for one in challenge.challenges)
        made = EnrolProof(
            request=body,
            activations=tuple(
                Activation(one.challenger, one.nonce, self.activate(one.credential_blob, one.encrypted_secret))
                for one in challenge.challenges
            ),
            certify=self.certify(self.bound(Purpose.ENROL_CERTIFY, nonces)),
            quote=self.quote(self.bound(Purpose.ENROL_QUOTE, nonces)),
            pcrs=self.values(),
            event_log=self.event_log,
            runtime=self.runtime,
        )
        return replace(made, **changes)

    def attest_request(self, nonce: bytes, **changes: Any) -> AttestRequest:
        """Return the message of a known device; the log by reference unless changed."""
        made = AttestRequest(
            device_id=self.device_id,
            server=self.server,
            nonce=nonce,
            quote=self.quote(self.bound(Purpose.ATTEST_QUOTE, (nonce,))),
            log=hashlib.sha256(self.event_log).digest(),
        )
        return replace(made, **changes)

    def whole_attest_request(self, nonce: bytes, **changes: Any) -> AttestRequest:
        """Return the message after a reboot: announced, with registers and log."""
        return self.attest_request(nonce, pcrs=self.values(), event_log=self.event_log, rebooted=True, **changes)


Forge = Callable[[SoftChip], Any]
