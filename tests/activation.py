"""The TPM's side of credential protection in software, for tests: TPM2_ActivateCredential (TPM 2.0 part 1, 24).

Written on the library's own key derivations, so that it shares nothing with the code under test.
"""

import hmac

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.hashes import HashAlgorithm
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode


def _unsize(data: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(data[:2], "big")
    assert len(data) >= 2 + size
    return data[2 : 2 + size], data[2 + size :]


def _whole(data: bytes) -> bytes:
    inner, rest = _unsize(data)
    assert rest == b""
    return inner


def _derive(digest: HashAlgorithm, seed: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    return KBKDFHMAC(
        algorithm=digest,
        mode=Mode.CounterMode,
        length=bits // 8,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=label,
        context=context,
        fixed=None,
    ).derive(seed)


def _seed(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, secret: bytes, digest: HashAlgorithm) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.decrypt(secret, padding.OAEP(padding.MGF1(digest), digest, b"IDENTITY\0"))
    x, rest = _unsize(secret)
    y = _whole(rest)
    point = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), key.curve).public_key()
    size = (key.curve.key_size + 7) // 8
    own = key.public_key().public_numbers().x.to_bytes(size, "big")
    info = b"IDENTITY\0" + x.rjust(size, b"\0") + own
    return ConcatKDFHash(digest, digest.digest_size, info).derive(key.exchange(ec.ECDH(), point))


class WrongCredential(Exception):
    """The integrity value does not fit: another object's name, another key, or changed bytes."""


def activate(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    name: bytes,
    id_object: bytes,
    encrypted_secret: bytes,
    *,
    digest: HashAlgorithm,
    aes_bits: int,
) -> bytes:
    """Return the secret that a credential holds for the object called name.

    *Raises* `WrongCredential`.
    """
    seed = _seed(key, _whole(encrypted_secret), digest)
    integrity, identity = _unsize(_whole(id_object))
    outer = _derive(digest, seed, b"INTEGRITY", b"", 8 * digest.digest_size)
    if not hmac.compare_digest(hmac.digest(outer, identity + name, digest.name), integrity):
        raise WrongCredential
    decryptor = Cipher(AES(_derive(digest, seed, b"STORAGE", name, aes_bits)), CFB(bytes(16))).decryptor()
    return _whole(decryptor.update(identity) + decryptor.finalize())
