"""A device whose attacks a real (software) TPM carries out: the interface of `softchip`, every signature by the TPM itself.

What such an attacker cannot do is what the TPM refuses; what it can do is make other keys, quote other registers, and let
the machine reboot, sleep or be copied.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import tpm_structures as structures
from attestd.protocol.messages import PcrValue, SignedAttest
from attestd.tpm.public import parse_public_area, spki
from attestd_agent import tpm_templates as templates
from attestd_agent.lab.device import SoftwareDevice
from attestd_agent.tpm import KeyBlob
from attestd_agent.tpm_connection import Connection
from attestd_agent.tpm_esys import EsysTpm
from attestd_pki import names
from softchip import PCRS, SERVER, SoftChip


class OtherKeyTpm(EsysTpm):
    """A TPM whose attestation key is made from another template: what an attacker with root asks it for."""

    def __init__(self, tcti: str, area: bytes) -> None:
        super().__init__(tcti)
        self._area = area

    def _ak(self, tpm: Connection) -> Any:
        return self._primary(tpm, "ak", tpm.authorize(tpm.tss.ESYS_TR.ENDORSEMENT, b""), self._area)

    @contextmanager
    def key(self) -> Iterator[tuple[Connection, Any]]:
        """Yield a connection and the key's handle."""
        with self._open() as tpm:
            yield tpm, self._ak(tpm)

    def sign_bytes(self, message: bytes) -> bytes:
        """TPM2_Hash and TPM2_Sign of a message. Raises: TpmRefused where the key is restricted and the message is like a TPM's."""
        with self.key() as (tpm, handle):
            tss = tpm.tss
            digest, ticket = tpm.run(
                "hash", tss.TPM2B_MAX_BUFFER(message), tss.TPM2_ALG.SHA256, tss.ESYS_TR.ENDORSEMENT
            )
            scheme = tpm.parse("TPMT_SIG_SCHEME", bytes.fromhex("0018000b"))
            return bytes(tpm.run("sign", handle, digest, scheme, ticket).marshal())

    def time(self, nonce: bytes) -> SignedAttest:
        """TPM2_GetTime."""
        with self.key() as (tpm, handle):
            scheme = tpm.parse("TPMT_SIG_SCHEME", bytes.fromhex("0018000b"))
            attest, signature = tpm.run("get_time", handle, tpm.tss.TPM2B_DATA(nonce), scheme)
            return SignedAttest(bytes(attest), signature.marshal())


class TpmChip(SoftChip):
    """One device with a software TPM; `tpm` makes its proofs and may be exchanged for one with other keys."""

    def __init__(self, device: SoftwareDevice, *, tpm: EsysTpm | None = None) -> None:
        self.device = device
        self.tpm = tpm or device.open_tpm()
        self.server = SERVER
        self.runtime = None
        self.ek_area = self.tpm.ek_public()[2:]
        self.ak_area = self.tpm.ak_public()[2:]
        self.certificates = self.tpm.ek_certificates()
        self.renew_keys()

    def renew_keys(self) -> None:
        """Make a new device key in the TPM and a new tunnel key."""
        self.key = self.tpm.create_device_key()
        self.device_key_area = self.key.public[2:]
        self.wireguard = X25519PrivateKey.generate()

    def use_key(self, key: KeyBlob) -> None:
        """Take this object of the TPM as the device key."""
        self.key, self.device_key_area = key, key.public[2:]

    @property
    def device_id(self) -> str:
        """The id that follows from the endorsement key."""
        return names.device_id(spki(parse_public_area(self.ek_area)))

    @property
    def event_log(self) -> bytes:  # type: ignore[override]
        """The log of the last boot."""
        return self.device.event_log.read_bytes()

    @property
    def registers(self) -> dict[int, bytes]:  # type: ignore[override]
        """The registers as they stand."""
        return dict(self.device.lab_tpm().read_pcrs("sha256", tuple(range(24))))

    def values(self, pcrs: tuple[int, ...] = PCRS) -> tuple[PcrValue, ...]:
        """The registers as a message carries them."""
        return tuple(PcrValue(index, value) for index, value in self.device.lab_tpm().read_pcrs("sha256", pcrs))

    def quote(self, nonce: bytes, *, pcrs: tuple[int, ...] = PCRS, bank: str = "sha256", **_: Any) -> SignedAttest:
        """TPM2_Quote."""
        made = self.tpm.quote(nonce, bank=bank, pcrs=pcrs)
        return SignedAttest(made.attest, made.signature)

    def certify(self, nonce: bytes, **_: Any) -> SignedAttest:
        """TPM2_Certify of the device key."""
        made = self.tpm.certify(self.key, nonce)
        return SignedAttest(made.attest, made.signature)

    def activate(self, blob: bytes, encrypted: bytes) -> bytes:
        """TPM2_ActivateCredential."""
        return self.tpm.activate(blob, encrypted)


def attestation_key(*, attributes: int = 0, label: bytes = b"another attestation key") -> bytes:
    """Return the template of an attestation key whose attributes differ in these bits, under its own label."""
    area = templates.ATTESTATION_KEY
    changed = int.from_bytes(area[4:8], "big") ^ attributes
    honest = hashlib.sha256(b"attestd attestation key 1").digest()
    return area[:4] + structures.u32(changed) + area[8:].replace(honest, hashlib.sha256(label).digest())
