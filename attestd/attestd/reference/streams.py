"""Streams of artefacts: looked ahead in, cut to a length, and decompressed as they are read.

Proves that no more is given than a stream has or is allowed to give: what is compressed is unpacked piece by piece, up to a bound.
Foreign errors of decompressors become one of ours. zstd is in Python since 3.14 (PEP 784), before that in a package.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, Protocol, cast

from attestd.protocol.limits import MAX_ARTEFACT_BYTES, MIB
from attestd.reference.files import ArtefactRefused, Readable

_PIECE: Final = 256 * 1024
_XZ_MEMORY: Final = 256 * MIB
"""Memory that one xz stream may ask for; `xz -9` needs 65 MiB."""


class Source:
    """A stream that can be looked ahead in, and given bytes back."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._ahead = b""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        if not self._ahead:
            return self._stream.read(size)
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only where the stream ends, and leave them there."""
        while len(self._ahead) < size and (data := self._stream.read(size - len(self._ahead))):
            self._ahead += data
        return self._ahead[:size]

    def push_back(self, data: bytes) -> None:
        """Put bytes in front of what comes next."""
        self._ahead = data + self._ahead


class Slice:
    """The next `size` bytes of a stream. *Raises* `ArtefactRefused` ("archive-short") where it has fewer."""

    def __init__(self, stream: Readable, size: int) -> None:
        self._stream = stream
        self._left = size

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        if not self._left:
            return b""
        data = self._stream.read(min(size, self._left))
        if not data:
            raise short()
        self._left -= len(data)
        return data

    def drain(self) -> None:
        """Read to the end."""
        while self.read(_PIECE):
            pass


def short() -> ArtefactRefused:
    """Return the error of a stream that ends too soon."""
    return ArtefactRefused("archive-short", "it ends in the middle: was it copied completely?")


def exactly(stream: Readable, size: int) -> bytes:
    """Return the next `size` bytes; `size` is small. *Raises* `ArtefactRefused` ("archive-short")."""
    data = limited(stream, size)
    if len(data) < size:
        raise short()
    return data


def limited(stream: Readable, size: int) -> bytes:
    """Return the next `size` bytes, fewer only where the stream ends; `size` is small."""
    data = b""
    while len(data) < size and (piece := stream.read(size - len(data))):
        data += piece
    return data


class Decompressor(Protocol):
    """What lzma, bz2 and zstd have alike."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""
        ...  # pragma: no cover

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes without more input."""
        ...  # pragma: no cover

    @property
    def unused_data(self) -> bytes:
        """What was given and lies behind the stream's end."""
        ...  # pragma: no cover

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Return at most `max_length` bytes."""
        ...  # pragma: no cover


class _Gzip:
    """zlib with the interface of the others."""

    def __init__(self) -> None:
        self._state = zlib.decompressobj(wbits=31)
        self._tail = b""

    @property
    def eof(self) -> bool:
        return self._state.eof

    @property
    def needs_input(self) -> bool:
        return not self._tail and not self._state.eof

    @property
    def unused_data(self) -> bytes:
        return self._state.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        found = self._state.decompress(self._tail + data, max_length)
        self._tail = self._state.unconsumed_tail
        return found


_ZSTD: Final = ("compression.zstd", "backports.zstd")


def _zstd() -> Any:
    """Return the module that unpacks zstd. *Raises* `ArtefactRefused` ("zstd-missing")."""
    for name in _ZSTD:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise ArtefactRefused(
        "zstd-missing",
        "it is compressed with zstd, which this Python cannot unpack: pip install 'attestd[authoring]' (or Python 3.14)",
    )


def _zstd_decompressor() -> Decompressor:
    return cast(Decompressor, _zstd().ZstdDecompressor())


def _zstd_errors() -> tuple[type[Exception], ...]:
    return (cast(type[Exception], _zstd().ZstdError),)


def _errors() -> tuple[type[Exception], ...]:
    return (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)


@dataclass(frozen=True, slots=True)
class _Format:
    """How a compressed stream begins, what unpacks it, and which errors that has."""

    magic: bytes
    make: Callable[[], Decompressor]
    errors: Callable[[], tuple[type[Exception], ...]] = _errors


_FORMATS: Final = (
    _Format(b"\x1f\x8b", _Gzip),
    _Format(b"\xfd7zXZ\0", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)),
    _Format(b"\x5d\0\0", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_XZ_MEMORY)),
    _Format(b"BZh", bz2.BZ2Decompressor),
    _Format(b"\x28\xb5\x2f\xfd", _zstd_decompressor, _zstd_errors),
)
_UNREADABLE: Final = ((b"\x02\x21\x4c\x18", "lz4"), (b"\x04\x22\x4d\x18", "lz4"), (b"\x89LZO", "lzo"))
COMPRESSED: Final = tuple(one.magic for one in _FORMATS) + tuple(magic for magic, _ in _UNREADABLE)
"""How compressed streams begin: gzip (RFC 1952), xz, lzma, bzip2, zstd (RFC 8878), and what is known and not read."""
_LONGEST: Final = max(map(len, COMPRESSED))


def is_compressed(source: Source) -> bool:
    """Return whether what comes next is a compressed stream."""
    return source.peek(_LONGEST).startswith(COMPRESSED)


def inflated(source: Source) -> Source:
    """Return what comes next unpacked, or as it is where it is not compressed.

    What follows the compressed streams stays in `source`. *Raises* `ArtefactRefused` ("archive-compression", "zstd-missing").
    """
    head = source.peek(_LONGEST)
    for magic, name in _UNREADABLE:
        if head.startswith(magic):
            raise ArtefactRefused(
                "archive-compression", f"it is compressed with {name}, which is not read: unpack it first"
            )
    for one in _FORMATS:
        if head.startswith(one.magic):
            return Source(_Inflated(source, one))
    return source


class _Inflated:
    """Compressed streams of one kind, one after the other, as one stream."""

    def __init__(self, source: Source, kind: _Format) -> None:
        self._source, self._magic, self._make = source, kind.magic, kind.make
        self._errors = kind.errors()
        self._state: Decompressor | None = kind.make()
        self._total = 0

    def read(self, size: int, /) -> bytes:
        while self._state is not None and size:
            data = self._step(self._state, min(size, _PIECE))
            self._total += len(data)
            if self._total > MAX_ARTEFACT_BYTES:
                raise ArtefactRefused("artefact-size", f"it unpacks to more than {MAX_ARTEFACT_BYTES} bytes")
            if self._state.eof:
                self._source.push_back(self._state.unused_data)
                self._state = self._make() if self._source.peek(len(self._magic)) == self._magic else None
            if data:
                return data
        return b""

    def _step(self, state: Decompressor, size: int) -> bytes:
        given = self._source.read(_PIECE) if state.needs_input else b""
        if not given and state.needs_input:
            raise short()
        try:
            return state.decompress(given, size)
        except self._errors as error:
            raise ArtefactRefused("archive-compression", f"its compressed data is damaged: {error}") from None
