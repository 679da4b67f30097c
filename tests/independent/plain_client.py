"""A device's client, written from docs/protocol.md and from nothing else: it imports nothing of this project."""

import base64
import hashlib
import http.client
import json
import ssl
import struct
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from independent.plain_tpm import PlainTpm, sized


class Problem(Exception):
    """A refusal, as the verifier wrote it."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document["code"])
        self.document = document


@dataclass
class Verifier:
    """HTTPS under an anchor that is known by its fingerprint, with messages in CBOR or JSON."""

    host: str
    port: int
    fingerprint: bytes
    media_type: str = "application/cbor"
    sent: int = 0
    anchor: str = field(init=False)

    def __post_init__(self) -> None:
        blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(self.host, self.port, context=blind, timeout=20)
        connection.request("GET", "/v1/trust-anchor")
        self.anchor = connection.getresponse().read().decode()
        connection.close()
        assert hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.anchor)).digest() == self.fingerprint

    def encode(self, message: dict[str, Any]) -> bytes:
        if self.media_type == "application/cbor":
            return cbor2.dumps(message)
        return json.dumps(message, default=lambda value: base64.urlsafe_b64encode(value).rstrip(b"=").decode()).encode()

    def octets(self, value: Any) -> bytes:
        return value if isinstance(value, bytes) else base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))

    def post(self, path: str, body: bytes) -> dict[str, Any]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cadata=self.anchor)
        connection = http.client.HTTPSConnection(self.host, self.port, context=context, timeout=20)
        try:
            connection.request("POST", path, body, {"Content-Type": self.media_type})
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        self.sent = len(body)
        if response.status != 200:
            raise Problem(json.loads(answer))
        document = cbor2.loads(answer) if self.media_type == "application/cbor" else json.loads(answer)
        assert isinstance(document, dict)
        return document


class PlainClient:
    """One device that enrols and proves itself again."""

    def __init__(self, tpm: PlainTpm, verifier: Verifier, *, boot_log: bytes) -> None:
        """Begin as a device that is not enrolled, with a new tunnel key."""
        self.tpm, self.verifier, self.boot_log = tpm, verifier, boot_log
        self.tunnel_key = x25519.X25519PrivateKey.generate().public_key().public_bytes_raw()
        self.device_id = device_id(tpm.ek_public)
        self.seed = b""
        self.next: dict[str, Any] = {}
        self.bank_pcrs: list[int] = []

    def enrol(self) -> dict[str, Any]:
        request = self.verifier.encode(
            {
                "server": self.verifier.host,
                "ek_public": self.tpm.ek_public,
                "ak_public": self.tpm.ak_public,
                "device_key": self.tpm.device_key_public,
                "vpn_keys": {"wireguard": self.tunnel_key},
                "ek_certificates": [self.tpm.ek_certificate()],
                "labels": {"client": "independent"},
            }
        )
        challenge = self.verifier.post("/v1/enrol", request)
        octets = self.verifier.octets
        nonces = [octets(one["nonce"]) for one in challenge["challenges"]]
        activations = [
            {
                "challenger": one["challenger"],
                "nonce": octets(one["nonce"]),
                "secret": self.tpm.activate(octets(one["credential_blob"]), octets(one["encrypted_secret"])),
            }
            for one in challenge["challenges"]
        ]
        self.bank_pcrs = challenge["quote"]["pcrs"]
        proof = {
            "request": request,
            "activations": activations,
            "certify": _signed(*self.tpm.certify(self.binding("enrol-certify", nonces))),
            "quote": _signed(*self.tpm.quote(self.binding("enrol-quote", nonces), self.bank_pcrs)),
            "pcrs": self._registers(),
            "event_log": self.boot_log,
        }
        answer = self.verifier.post("/v1/enrol/proof", self.verifier.encode(proof))
        self.next = answer["next"]
        return answer

    def attest(self, **more: Any) -> dict[str, Any]:
        nonce = self.verifier.octets(self.next["nonce"])
        message = {
            "device_id": self.device_id,
            "server": self.verifier.host,
            "nonce": nonce,
            "quote": _signed(*self.tpm.quote(self.binding("attest-quote", [nonce]), self.bank_pcrs)),
            "log": hashlib.sha256(self.boot_log).digest(),
            **more,
        }
        answer = self.verifier.post("/v1/attest", self.verifier.encode(message))
        self.next = answer["next"]
        return answer

    def repeat(self, problem: Problem, **more: Any) -> dict[str, Any]:
        """Repeat a proof over the nonce of a problem, as "Repeating" says."""
        self.next = {"nonce": base64.urlsafe_b64decode(problem.document["nonce"] + "==")}
        return self.attest(**more)

    def everything(self) -> dict[str, Any]:
        """Return what a rebooted device sends along."""
        return {"rebooted": True, "event_log": self.boot_log, "pcrs": self._registers()}

    def binding(self, purpose: str, nonces: list[bytes]) -> bytes:
        device_key_name = name(self.tpm.device_key_public)
        keys = [["wireguard", self.tunnel_key]]
        array = ["attestd binding v1", purpose, self.verifier.host, nonces, self.device_id, device_key_name, keys]
        return hashlib.sha256(cbor2.dumps(array, canonical=True)).digest()

    def _registers(self) -> list[dict[str, Any]]:
        values = self.tpm.registers(self.bank_pcrs)
        return [{"index": index, "value": value} for index, value in zip(self.bank_pcrs, values, strict=True)]


def device_id(tpm2b_public: bytes) -> str:
    """Follow "Device identity" for an RSA endorsement key."""
    exponent, size = struct.unpack_from(">IH", tpm2b_public, 2 + 8 + 34 + 6 + 2 + 2)
    modulus = tpm2b_public[-size:]
    numbers = rsa.RSAPublicNumbers(exponent or 65537, int.from_bytes(modulus, "big"))
    der = numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b32encode(hashlib.sha256(der).digest()).decode().rstrip("=").lower()


def name(tpm2b_public: bytes) -> bytes:
    """Return the TPM name of a key whose nameAlg is SHA-256."""
    area = tpm2b_public[2:]
    assert sized(area) == tpm2b_public
    return area[2:4] + hashlib.sha256(area).digest()


def _signed(attest: bytes, signature: bytes) -> dict[str, bytes]:
    return {"attest": attest, "signature": signature}
