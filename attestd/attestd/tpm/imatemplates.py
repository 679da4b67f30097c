"""Templates of the Linux runtime list: which fields an entry has, and what they mean.

Proves that an entry's template data is exactly its template's fields. A template that is not known here is opaque: its
entries count in a replay and say nothing. Linux Documentation/security/IMA-templates.rst; integrity/ima/ima_template.c.
"""

from dataclasses import dataclass
from functools import lru_cache
from struct import Struct, error
from typing import Final, Literal, NamedTuple

from attestd.protocol.limits import MAX_IMA_TEMPLATE_NAME
from attestd.tpm.algorithms import DIGEST_SIZES
from attestd.tpm.errors import Malformed

SHA1_SIZE: Final = DIGEST_SIZES["sha1"]
OTHER_BANKS: Final = {DIGEST_SIZES[name]: name for name in ("sha256", "sha384", "sha512")}
"""Banks by the size of their template hashes, in the lists that kernels since 6.10 show for each bank."""
LEGACY: Final = "ima"
"""The first template, whose two fields have a layout of their own."""
MAX_LEGACY_NAME: Final = 255
_NAME_FIELD: Final = MAX_LEGACY_NAME + 1
"""Bytes to which the legacy template pads a file name before hashing (IMA_EVENT_NAME_LEN_MAX + 1)."""
_VIOLATION: Final = bytes(SHA1_SIZE)

_TEMPLATES: Final = {
    "ima": "d|n",
    "ima-ng": "d-ng|n-ng",
    "ima-ngv2": "d-ngv2|n-ng",
    "ima-sig": "d-ng|n-ng|sig",
    "ima-sigv2": "d-ngv2|n-ng|sig",
    "ima-buf": "d-ng|n-ng|buf",
    "ima-modsig": "d-ng|n-ng|sig|d-modsig|modsig",
    "evm-sig": "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",
}
_DIGESTS: Final = frozenset({"d", "d-ng", "d-ngv2"})
_NAMES: Final = frozenset({"n", "n-ng"})
_FIELDS: Final = frozenset(name for template in _TEMPLATES.values() for name in template.split("|"))
_LENGTH: Final = Struct("<I")
_LENGTHS: Final = {"little": _LENGTH, "big": Struct(">I")}
_MAX_CACHED: Final = 64
"""Templates remembered: a machine uses one to three; the bound is for hostile lists."""
_MAX_ALGORITHM_NAME: Final = 32
"""Bytes; the kernel's longest is "streebog256", with "verity:" before it."""

FileDigest = tuple[str, bytes]
_made: Final = tuple.__new__
"""What a named tuple's constructor ends in, without the call before it."""


@dataclass(frozen=True, slots=True)
class Template:
    """One template: its name, the names of its fields (none: opaque), and where digest and path are (-1: nowhere)."""

    name: str
    fields: tuple[str, ...]
    digest_at: int
    path_at: int


class ImaEntry(NamedTuple):
    """One measurement. A list has 100,000 of them, and a tuple is made three times as fast as a frozen dataclass.

    `template_digest` is the hash that the list itself gives (SHA-1, 20 bytes, but in lists of a single bank); `data` the raw
    template data that the digests of every bank cover; `fields` its fields, named by the template. `path` is bytes: Linux paths
    have no encoding, and may hold line feeds and terminal escapes. `file_digest` is None for a violation, and where it has not
    its algorithm's size: then nothing vouches for the file.
    """

    index: int  # type: ignore[assignment]  # it hides tuple.index, which nobody calls on an entry
    pcr: int
    template_digest: bytes
    template: str
    data: bytes
    fields: tuple[bytes, ...]
    path: bytes | None
    file_digest: FileDigest | None
    violation: bool


@lru_cache(maxsize=_MAX_CACHED)
def template_of(name: bytes) -> Template:
    """Return the template of a name, or of a format such as "d-ng|n-ng|sig" (custom templates go by their format).

    *Raises* `Malformed` ("ima-template-name" where it is empty, too long or not printable ASCII).
    """
    text = name.decode("ascii", "replace")
    if not 0 < len(name) <= MAX_IMA_TEMPLATE_NAME or not name.isascii() or not text.isprintable():
        raise Malformed("ima-template-name", f"a template name of {len(name)} bytes")
    fields = tuple(_TEMPLATES.get(text, text).split("|"))
    if not _FIELDS.issuperset(fields):
        fields = ()
    return Template(text, fields, _place(fields, _DIGESTS), _place(fields, _NAMES))


def _place(fields: tuple[str, ...], wanted: frozenset[str]) -> int:
    return next((index for index, field in enumerate(fields) if field in wanted), -1)


def split_fields(template: Template, data: bytes, order: Literal["little", "big"] = "little") -> tuple[bytes, ...]:
    """Split template data into its fields: each a 32-bit length and its bytes.

    The legacy template starts with a bare SHA-1. Opaque templates have no fields.
    *Raises* `Malformed` ("ima-field").
    """
    fields: list[bytes] = []
    position = 0
    names = template.fields
    if template.name == LEGACY:
        fields.append(data[:SHA1_SIZE])
        position, names = SHA1_SIZE, names[1:]
    read = _LENGTHS[order].unpack_from
    try:
        for _ in names:
            start = position + 4
            position = start + read(data, position)[0]
            fields.append(data[start:position])
    except error:
        raise Malformed("ima-field", f"template data of {template.name} ends early") from None
    # A field that reached past the end was cut by its slice; only the sum shows it.
    if position != len(data) and names:
        raise Malformed("ima-field", f"the fields of {template.name} take {position} of {len(data)} bytes")
    return tuple(fields)


def path_of(template: Template, fields: tuple[bytes, ...]) -> bytes | None:
    """Return the path without its terminator, or None where the template has none.

    The legacy template writes no terminator.
    *Raises* `Malformed` ("ima-field" where the terminator is missing or not last).
    """
    if template.path_at < 0:
        return None
    name = fields[template.path_at]
    if template.name == LEGACY:
        if len(name) > MAX_LEGACY_NAME or b"\0" in name:
            raise Malformed("ima-field", f"a file name of {len(name)} bytes")
        return name
    if name.find(b"\0") != len(name) - 1:
        raise Malformed("ima-field", "a path whose terminator is not its last byte")
    return name[:-1]


def file_digest_of(template: Template, fields: tuple[bytes, ...]) -> FileDigest | None:
    """Return (algorithm, digest) of the file, or None where the template has none, or one of another size than its algorithm's.

    The algorithm is the kernel's name and may be one that is not known here; then nobody will match it. "d-ngv2" puts
    "ima:" or "verity:" before it; a digest of a Merkle tree is not one of the file, so "verity:" stays in the name.
    *Raises* `Malformed` ("ima-field").
    """
    if template.digest_at < 0:
        return None
    field = fields[template.digest_at]
    kind = template.fields[template.digest_at]
    if kind == "d":
        algorithm, digest = b"", field
    else:
        algorithm, colon, digest = field.partition(b":\0")
        if not colon:
            raise Malformed("ima-field", "a digest without its algorithm")
    name, expected = _algorithm(kind, algorithm)
    if expected is not None and len(digest) != expected:
        return None
    return name, digest


@lru_cache(maxsize=_MAX_CACHED)
def _algorithm(kind: str, prefix: bytes) -> tuple[str, int | None]:
    """Return the name of an algorithm as a field of this kind writes it, and its digests' size where it is known."""
    if kind == "d":
        return "sha1", SHA1_SIZE
    if kind == "d-ngv2" and prefix.startswith(b"ima:"):
        prefix = prefix[4:]
    if not 0 < len(prefix) <= _MAX_ALGORITHM_NAME or not prefix.translate(None, b"_-:").isalnum():
        raise Malformed("ima-field", "a digest algorithm without a name")
    name = prefix.decode("ascii")
    return name, DIGEST_SIZES.get(name)


def build_entry(
    index: int, pcr: int, digest: bytes, template: Template, data: bytes, fields: tuple[bytes, ...]
) -> ImaEntry:
    """Put an entry together from its parts, which the two readers (binary, ASCII) obtain in their own ways.

    *Raises* `Malformed` ("ima-field").
    """
    violation = digest == _VIOLATION if len(digest) == SHA1_SIZE else not any(digest)
    path = path_of(template, fields)
    file_digest = None if violation else file_digest_of(template, fields)
    return _made(ImaEntry, (index, pcr, digest, template.name, data, fields, path, file_digest, violation))


def hashed_data(entry: ImaEntry) -> bytes:
    """Return the bytes that the template digest covers (ima_crypto.c, ima_calc_field_array_hash_tfm)."""
    if entry.template == LEGACY:
        return entry.data[:SHA1_SIZE] + entry.data[SHA1_SIZE + 4 :].ljust(_NAME_FIELD, b"\0")
    return entry.data
