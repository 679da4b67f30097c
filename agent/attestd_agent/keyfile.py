"""The device's certificate and a reference to its key, in the form that TLS and IKE providers for TPMs read.

The private part is the TPM's own blob: whoever copies the file has nothing without this very TPM (T09). Assumes that the
key's parent is the owner's ECC P-256 storage root key with an empty `unique`, which is the one that such providers make.
Does not check that certificate and key belong together.
"""

import base64
import ssl
from collections.abc import Iterable
from typing import Final

from attestd_agent.tpm import KeyBlob

_LABEL: Final = "TSS2 PRIVATE KEY"
_LOADABLE_KEY: Final = bytes((0x67, 0x81, 0x05, 0x0A, 0x01, 0x03))  # 2.23.133.10.1.3
_OWNER_HIERARCHY: Final = 0x40000001  # TPM_RH_OWNER: the parent is the storage root key of its standard template


def device_pem(chain: Iterable[bytes], key: KeyBlob) -> str:
    """Return the certificates (DER, the device's own first) as PEM, and the key's reference after them."""
    return "".join(ssl.DER_cert_to_PEM_cert(der) for der in chain) + key_reference(key)


def key_reference(key: KeyBlob) -> str:
    """Return a TPMKey as PEM: type, emptyAuth, parent, public and private part.

    Source: "ASN.1 Specification for TPM 2.0 Key Files" (draft-bottomley-tpm2-keys), 3.
    """
    content = (
        _element(0x06, _LOADABLE_KEY)
        + _element(0xA0, _element(0x01, b"\xff"))
        + _element(0x02, _OWNER_HIERARCHY.to_bytes(4, "big"))
        + _element(0x04, key.public)
        + _element(0x04, key.private)
    )
    text = base64.encodebytes(_element(0x30, content)).decode("ascii").replace("\n", "")
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join((f"-----BEGIN {_LABEL}-----", *lines, f"-----END {_LABEL}-----", ""))


def _element(tag: int, content: bytes) -> bytes:
    """Return one DER element (X.690, 8.1); its content is shorter than 64 KiB."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    if size < 0x100:
        return bytes((tag, 0x81, size)) + content
    return bytes((tag, 0x82)) + size.to_bytes(2, "big") + content
