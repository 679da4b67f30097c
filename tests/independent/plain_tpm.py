"""The few TPM commands that docs/protocol.md names, spoken straight to a TPM's socket: no TSS, nothing of this project.

Written from TPM 2.0 Part 2 and Part 3 alone, so that a client which follows the document does not lean on the code that
it is to be compared with. For one software TPM in tests; it flushes nothing but what it made.
"""

import hashlib
import secrets
import socket
import struct

RS_PW, RH_NULL, RH_OWNER, RH_ENDORSEMENT = 0x40000009, 0x40000007, 0x40000001, 0x4000000B
ECC, RSA, SHA256, NULL, ECDSA, AES, CFB, P256 = 0x23, 0x01, 0x0B, 0x10, 0x18, 0x06, 0x43, 0x03
EK_ATTRIBUTES, AK_ATTRIBUTES, DEVICE_KEY_ATTRIBUTES = 0x000300B2, 0x00050472, 0x00040472
EK_CERTIFICATE_INDEX = 0x01C00002
POLICY_A = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
PASSWORD = struct.pack(">IHBH", RS_PW, 0, 1, 0)


def sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def ek_template() -> bytes:
    """TPMT_PUBLIC of the RSA 2048 endorsement key (EK Credential Profile 2.5, B.3.3, template L-1)."""
    head = struct.pack(">HHI", RSA, SHA256, EK_ATTRIBUTES) + sized(POLICY_A)
    return head + struct.pack(">HHHHHI", AES, 128, CFB, NULL, 2048, 0) + sized(bytes(256))


def signing_template(attributes: int, scheme: bytes, unique: bytes) -> bytes:
    """TPMT_PUBLIC of a P-256 signing key."""
    head = struct.pack(">HHI", ECC, SHA256, attributes) + sized(b"") + struct.pack(">H", NULL)
    return head + scheme + struct.pack(">HH", P256, NULL) + sized(unique) + sized(bytes(32))


def selection(pcrs: list[int]) -> bytes:
    """TPML_PCR_SELECTION of one SHA-256 bank."""
    bits = sum(1 << index for index in pcrs)
    return struct.pack(">IHB", 1, SHA256, 3) + bits.to_bytes(3, "little")


class PlainTpm:
    """One connection to a TPM, and the keys that a device needs."""

    def __init__(self, path: str, *, device_key_seed: bytes) -> None:
        """Connect and make the keys; the same `device_key_seed` (32 bytes) gives the same device key again."""
        self._link = socket.socket(socket.AF_UNIX)
        self._link.settimeout(20)
        self._link.connect(path)
        self.ek, self.ek_public = self._primary(RH_ENDORSEMENT, ek_template())
        pinned = struct.pack(">HH", ECDSA, SHA256)
        self.ak, self.ak_public = self._primary(
            RH_ENDORSEMENT, signing_template(AK_ATTRIBUTES, pinned, hashlib.sha256(b"an independent client").digest())
        )
        unscheduled = struct.pack(">H", NULL)
        self.device_key, self.device_key_public = self._primary(
            RH_OWNER, signing_template(DEVICE_KEY_ATTRIBUTES, unscheduled, device_key_seed)
        )

    def close(self) -> None:
        for handle in (self.ek, self.ak, self.device_key):
            self._run(0x165, struct.pack(">I", handle))
        self._link.close()

    def ek_certificate(self) -> bytes:
        public = self._run(0x169, struct.pack(">I", EK_CERTIFICATE_INDEX))
        size = struct.unpack_from(">H", public, struct.unpack_from(">H", public)[0])[0]
        both = struct.pack(">II", EK_CERTIFICATE_INDEX, EK_CERTIFICATE_INDEX)
        parts = [
            self._run(0x14E, both, struct.pack(">HH", min(512, size - at), at), auth=PASSWORD)[2:]
            for at in range(0, size, 512)
        ]
        return b"".join(parts)

    def activate(self, credential_blob: bytes, encrypted_secret: bytes) -> bytes:
        null = struct.pack(">II", RH_NULL, RH_NULL)
        started = self._run(
            0x176, null, sized(secrets.token_bytes(16)) + sized(b"") + struct.pack(">BHH", 1, NULL, SHA256)
        )
        session = struct.unpack_from(">I", started)[0]
        handles = struct.pack(">II", RH_ENDORSEMENT, session)
        self._run(0x151, handles, sized(b"") * 3 + struct.pack(">i", 0), auth=PASSWORD)
        both = PASSWORD + struct.pack(">IHBH", session, 0, 0, 0)
        answer = self._run(0x147, struct.pack(">II", self.ak, self.ek), credential_blob + encrypted_secret, auth=both)
        return answer[2:]

    def certify(self, qualifying: bytes) -> tuple[bytes, bytes]:
        handles = struct.pack(">II", self.device_key, self.ak)
        return _statement(self._run(0x148, handles, sized(qualifying) + struct.pack(">H", NULL), auth=PASSWORD * 2))

    def quote(self, qualifying: bytes, pcrs: list[int]) -> tuple[bytes, bytes]:
        parameters = sized(qualifying) + struct.pack(">H", NULL) + selection(pcrs)
        return _statement(self._run(0x158, struct.pack(">I", self.ak), parameters, auth=PASSWORD))

    def registers(self, pcrs: list[int]) -> list[bytes]:
        values = []
        for index in pcrs:
            answer = self._run(0x17E, b"", selection([index]))
            values.append(answer[-32:])
        return values

    def _primary(self, hierarchy: int, template: bytes) -> tuple[int, bytes]:
        """Make a primary key and return (handle, TPM2B_PUBLIC)."""
        parameters = sized(sized(b"") * 2) + sized(template) + sized(b"") + struct.pack(">I", 0)
        answer = self._run(0x131, struct.pack(">I", hierarchy), parameters, auth=PASSWORD, handle_back=True)
        (handle,) = struct.unpack_from(">I", answer)
        size = struct.unpack_from(">H", answer, 4)[0]
        return handle, answer[4 : 6 + size]

    def _run(
        self, code: int, handles: bytes, parameters: bytes = b"", *, auth: bytes = b"", handle_back: bool = False
    ) -> bytes:
        """Send one command and return its parameters, with the handle in front where one comes back."""
        body = handles + (struct.pack(">I", len(auth)) + auth if auth else b"") + parameters
        self._link.sendall(struct.pack(">HII", 0x8002 if auth else 0x8001, 10 + len(body), code) + body)
        tag, size, result = struct.unpack(">HII", self._take(10))
        answer = self._take(size - 10)
        assert result == 0, f"the TPM answers 0x{result:08x} to 0x{code:x}"
        if tag == 0x8001:
            return answer
        handle, rest = (answer[:4], answer[4:]) if handle_back else (b"", answer)
        (length,) = struct.unpack_from(">I", rest)
        return handle + rest[4 : 4 + length]

    def _take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._link.recv(count - len(data))
            assert more, "the TPM ended the connection"
            data += more
        return data


def _statement(answer: bytes) -> tuple[bytes, bytes]:
    """Split (TPM2B_ATTEST, TPMT_SIGNATURE) and take the size off the first."""
    (size,) = struct.unpack_from(">H", answer)
    return answer[2 : 2 + size], answer[2 + size :]
