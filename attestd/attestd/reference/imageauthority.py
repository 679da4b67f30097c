"""Who lets an image run under Secure Boot: the entry of db that stands behind its signature (UEFI 2.10, 32.5.3).

Proves that the digest in a signature is the image's, and that a certificate of db signed, over certificates in the
signature, that of the signer it names. Assumes that the signer signed: firmware checks that. Does not judge validity periods,
which firmware does not know, nor what dbx forbids. An image that only its digest in db lets run has no such entry here.
"""

from struct import Struct
from typing import Final
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from attestd.reference.authenticode import image_digest
from attestd.reference.files import ArtefactRefused
from attestd.reference.pe import Image
from attestd.tpm.signaturelist import parse_signature_lists
from attestd_pki import der
from attestd_pki.errors import PkiError

_ENTRY: Final = Struct("<IHH")
_SIGNED_DATA: Final = 0x0002
_MAX_SIGNATURES: Final = 8
_MAX_DEPTH: Final = 8
_CONTEXT_0: Final = 0xA0
_HASHES: Final = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}


def authority(image: Image, database: bytes) -> bytes | None:
    """Return the EFI_SIGNATURE_DATA of db (owner and certificate) that lets an image run, or None where none does.

    `database` are signature lists that `parse_signature_lists` reads. Firmware takes the first signature behind which some
    entry stands, and of those entries the first. *Raises* `ArtefactRefused` ("image-signature") for signatures that cannot be
    read, or whose digest is not the image's: firmware starts no such image.
    """
    entries = [e for found in parse_signature_lists(database) if found.type == "x509" for e in found.signatures]
    for signature in signatures(image):
        chain = _chain(image, signature)
        for entry in entries:
            if entry.owner is not None and _stands_behind(entry.data, chain):
                return UUID(entry.owner).bytes_le + entry.data
    return None


def signatures(image: Image) -> tuple[bytes, ...]:
    """Return the image's signatures, each a SignedData in its ContentInfo (PE/COFF, 5.7).

    *Raises* `ArtefactRefused` ("image-signature") where their table cannot be read.
    """
    position, length = image.certificates
    found: list[bytes] = []
    end = position + length
    while end - position >= _ENTRY.size:
        size, _, kind = _ENTRY.unpack_from(image.data, position)
        if not _ENTRY.size < size <= end - position or len(found) >= _MAX_SIGNATURES:
            raise _unreadable()
        if kind == _SIGNED_DATA:
            found.append(bytes(image.data[position + _ENTRY.size : position + size]))
        position += -(-size // 8) * 8
    return tuple(found)


def signed_digest(signature: bytes) -> tuple[str, bytes]:
    """Return the hash and the digest that a signature is over (SpcIndirectDataContent).

    *Raises* `ArtefactRefused` ("image-signature").
    """
    try:
        return _signed_digest(_signed_data(signature))
    except (PkiError, IndexError, ValueError):
        raise _unreadable() from None


def _unreadable() -> ArtefactRefused:
    return ArtefactRefused("image-signature", "the image's signatures cannot be read")


def _signed_data(signature: bytes) -> tuple[der.Element, ...]:
    """Return the fields of SignedData (RFC 2315, 9.1); what is behind it is padding."""
    _, start, end = der.measure(signature)
    _, explicit = der.elements(signature[start:end])[:2]
    return der.elements(der.only(explicit.content, der.SEQUENCE).content)


def _signed_digest(fields: tuple[der.Element, ...]) -> tuple[str, bytes]:
    content = der.elements(fields[2].content)[1]
    indirect = der.elements(der.only(content.content, der.SEQUENCE).content)
    algorithm, digest = der.elements(indirect[1].content)[:2]
    name = _HASHES.get(der.object_identifier(der.elements(algorithm.content)[0]), "")
    return name, digest.content


def _chain(image: Image, signature: bytes) -> list[x509.Certificate]:
    """Return the signer's certificate and those above it in the signature, after comparing digests. *Raises* ArtefactRefused."""
    try:
        fields = _signed_data(signature)
        name, digest = _signed_digest(fields)
        issuer, serial = der.elements(der.elements(der.elements(fields[-1].content)[0].content)[1].content)[:2]
        number = der.integer(serial)
        given = [_certificate(e.raw) for f in fields if f.tag == _CONTEXT_0 for e in der.elements(f.content)]
    except (PkiError, IndexError, ValueError):
        raise _unreadable() from None
    if name not in _HASHES.values() or image_digest(image, name) != digest:
        raise ArtefactRefused(
            "image-signature", "the image is not the one that was signed: firmware starts no such image"
        )
    chain = [one for one in given if one.serial_number == number and one.issuer.public_bytes() == issuer.raw][:1]
    while chain and len(chain) < _MAX_DEPTH:
        above = [one for one in given if one not in chain and _issued(one, chain[-1])]
        if not above:
            break
        chain.append(above[0])
    return chain


def _certificate(data: bytes) -> x509.Certificate:
    """Return a certificate whose names can be read, which the library does only when they are asked for. *Raises* ValueError."""
    try:
        found = x509.load_der_x509_certificate(data)
        _ = found.issuer, found.subject
    except (x509.InvalidVersion, TypeError):
        raise ValueError("a certificate of no known version, or with names of no known type") from None
    return found


def _stands_behind(entry: bytes, chain: list[x509.Certificate]) -> bool:
    try:
        certificate = _certificate(entry)
    except ValueError:
        return False
    return certificate in chain or any(_issued(certificate, one) for one in chain)


def _issued(issuer: x509.Certificate, subject: x509.Certificate) -> bool:
    try:
        subject.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
