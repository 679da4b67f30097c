"""The Authenticode digest of an image: what firmware extends into PCR 4 for everything that it starts.

Proves that the digest covers the headers and all sections of the image, without the checksum, the directory entry of the signatures
and the signatures, so that signing an image of a size that is a multiple of eight does not change it. Windows Authenticode Portable
Executable Signature Format 1.0, "Calculating the PE image hash"; PC client platform firmware profile 1.06, 3.3.4.5 (PCR 4).
"""

from collections.abc import Iterable, Iterator
from hashlib import new

from attestd.reference.pe import Bytes, Image
from attestd.tpm.algorithms import HASHLIB_NAMES


def image_digest(image: Image, bank: str) -> bytes:
    """Return the digest in a bank.

    What lies in gaps between sections is not covered by the specification's steps 7 to 12; the bytes behind the last section
    are counted from the sum of all sizes (step 13), as EDK2's measurement does.
    """
    return content_digest(bank, _covered(image))


def content_digest(bank: str, parts: Iterable[Bytes]) -> bytes:
    """Return the digest of bytes that are not copied for it; `bank` is a name of `HASHLIB_NAMES`."""
    state = new(HASHLIB_NAMES[bank])
    for part in parts:
        state.update(part)
    return state.digest()


def _covered(image: Image) -> Iterator[Bytes]:
    data = image.data
    yield data[: image.checksum]
    if image.directory is None:
        yield data[image.checksum + 4 : image.headers]
    else:
        yield data[image.checksum + 4 : image.directory]
        yield data[image.directory + 8 : image.headers]
    covered = image.headers
    for section in sorted((s for s in image.sections if s.stored), key=lambda s: s.offset):
        yield data[section.offset : section.offset + section.stored]
        covered += section.stored
    yield data[covered : max(covered, len(data) - image.certificates[1])]
