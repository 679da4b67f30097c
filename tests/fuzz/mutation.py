"""Mutations: of bytes, and of what bytes mean (DER, CBOR, JSON, logs), so that lengths stay right and depths are reached.

Deterministic: everything follows from the generator that is handed in.
"""

import base64
import json
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final
from zlib import crc32

import cbor2

Mutator = Callable[[bytes, Random], bytes]
_NOT_CBOR: Final = (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError)
_SSH_NAMES: Final = (
    *(
        b"ssh-ed25519",
        b"ssh-rsa",
        b"rsa-sha2-256",
        b"rsa-sha2-512",
        b"sha256",
        b"sha512",
        b"md5",
        b"",
        b"attestd-change",
    ),
    *(b"sk-ssh-ed25519@openssh.com", b"sk-ecdsa-sha2-nistp256@openssh.com", b"ecdsa-sha2-nistp521", b"nistp384"),
)
_NUMBERS: Final = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**64 - 1,
)


def mutate_bytes(data: bytes, random: Random, words: Sequence[bytes] = ()) -> bytes:
    """Return the bytes with one to four small changes."""
    made = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randint(0, len(made))
        match random.randint(0, 7):
            case 0 if made:
                made[at % len(made)] ^= 1 << random.randint(0, 7)
            case 1 if made:
                made[at % len(made)] = random.choice((0, 1, 0x20, 0x7F, 0x80, 0xFF, random.randint(0, 255)))
            case 2:
                del made[at : at + random.randint(1, 16)]
            case 3:
                made[at:at] = random.randbytes(random.randint(1, 8))
            case 4:
                start = random.randint(0, len(made))
                made[at:at] = made[start : start + random.randint(1, 64)]
            case 5:
                size = random.choice((1, 2, 4, 8))
                number = random.choice(_NUMBERS) & ((1 << 8 * size) - 1)
                made[at : at + size] = number.to_bytes(size, random.choice(("big", "little")))
            case 6 if words:
                made[at:at] = random.choice(words)
            case _:
                del made[at:]
    return bytes(made)


# --- Trees ----------------------------------------------------------------------------------------------------------------

_LEAVES: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    23,
    255,
    65536,
    2**32,
    2**63,
    2**64 - 1,
    -(2**63),
    1.5,
    float("inf"),
    "",
    "a",
    "\u00e9\ud800",
    "0",
    "x" * 300,
    [],
    {},
    [[]],
    [[1, ""]],
    {"": ""},
)


def _change(item: Any, random: Random, leaves: Sequence[Any], depth: int = 0) -> Any:
    """Return the item with one change somewhere inside."""
    if isinstance(item, list) and item and random.random() < 0.85:
        made = list(item)
        at = random.randrange(len(made))
        match random.randint(0, 5):
            case 0:
                del made[at]
            case 1:
                made.insert(at, random.choice(made))
            case 2:
                other = random.randrange(len(made))
                made[at], made[other] = made[other], made[at]
            case _:
                made[at] = _change(made[at], random, leaves, depth + 1)
        return made
    if isinstance(item, dict) and item and random.random() < 0.9:
        return _change_map(item, random, leaves, depth)
    if isinstance(item, cbor2.CBORTag):
        number = random.choice((item.tag, item.tag, item.tag, 18, 501, 506, 505, 37, 111, 552, 1))
        return cbor2.CBORTag(number, _change(item.value, random, leaves, depth + 1))
    if isinstance(item, bytes) and random.random() < 0.7:
        inner = _load_cbor(item) if depth < 4 and len(item) > 1 and random.random() < 0.7 else None
        if isinstance(inner, list | dict | cbor2.CBORTag):
            return _dump_cbor(_change(inner, random, leaves, depth + 1), item)
        return mutate_bytes(item, random)
    if isinstance(item, str) and item and random.random() < 0.7:
        return mutate_bytes(item.encode("utf-8", "surrogatepass"), random).decode("utf-8", "replace")
    if type(item) is int and random.random() < 0.6:
        return random.choice((item + 1, item - 1, -item, item * 2, random.choice(_NUMBERS)))
    return random.choice(leaves)


def _change_map(item: dict[Any, Any], random: Random, leaves: Sequence[Any], depth: int) -> dict[Any, Any]:
    made = dict(item)
    key = random.choice(list(made))
    match random.randint(0, 6):
        case 0:
            del made[key]
        case 1:
            other = key[:-1] + "x" if isinstance(key, str) else random.choice(("", "x", 0, 1, 99, -1))
            made[other] = made.pop(key)
        case 2:
            made[key] = made[random.choice(list(made))]
        case _:
            made[key] = _change(made[key], random, leaves, depth + 1)
    return made


def _load_cbor(data: bytes) -> Any:
    try:
        return cbor2.loads(data, tag_hook=None, semantic_decoders={}, max_depth=64)
    except _NOT_CBOR:
        return None


def _dump_cbor(item: Any, otherwise: bytes) -> bytes:
    try:
        return cbor2.dumps(item)
    except _NOT_CBOR:
        return otherwise


def mutate_cbor(data: bytes, random: Random) -> bytes:
    """Change an item of a CBOR document, also inside byte strings that hold CBOR."""
    item = _load_cbor(data)
    if item is None:
        return mutate_bytes(data, random)
    return _dump_cbor(_change(item, random, (*_LEAVES, b"", bytes(32), b"\xa0", cbor2.CBORTag(501, {}))), data)


def mutate_json(data: bytes, random: Random) -> bytes:
    """Change an item of a JSON document; half of the time written canonically."""
    try:
        item = json.loads(data)
    except (ValueError, RecursionError):
        return mutate_bytes(data, random)
    made = _change(item, random, _LEAVES)
    if random.random() < 0.5:
        try:
            return json.dumps(made, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        except ValueError:
            pass
    return json.dumps(made).encode()


# --- DER ------------------------------------------------------------------------------------------------------------------


def _length(size: int) -> bytes:
    if size < 0x80:
        return bytes((size,))
    number = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(number),)) + number


def _parts(data: bytes) -> list[tuple[int, bytes]] | None:
    """Return the elements that fill `data`, or None."""
    found = []
    position = 0
    while position < len(data):
        if position + 2 > len(data):
            return None
        tag, size = data[position], data[position + 1]
        start = position + 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(data[position + 2 : start], "big")
        position = start + size
        if position > len(data):
            return None
        found.append((tag, data[start:position]))
    return found


def mutate_der(data: bytes, random: Random, depth: int = 0) -> bytes:
    """Change an element somewhere inside; the lengths around it are written anew."""
    parts = _parts(data) if depth < 24 else None
    if not parts:
        return mutate_bytes(data, random)
    at = random.randrange(len(parts))
    tag, content = parts[at]
    match random.randint(0, 11):
        case 0:
            del parts[at]
        case 1:
            parts.insert(at, parts[at])
        case 2:
            other = random.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        case 3:
            parts[at] = (
                random.choice(
                    (0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0C, 0x13, 0x17, 0x18, 0x1E, 0x30, 0x31, 0xA0, 0xA4)
                ),
                content,
            )
        case _:
            inside = content
            if tag & 0x20 or (tag in (3, 4) and depth < 12 and random.random() < 0.7):
                shift = 1 if tag == 3 else 0
                inside = content[:shift] + mutate_der(content[shift:], random, depth + 1)
            else:
                inside = mutate_bytes(content, random)
            parts[at] = (tag, inside)
    return b"".join(bytes((tag,)) + _length(len(content)) + content for tag, content in parts)


# --- Logs and lists -------------------------------------------------------------------------------------------------------


def mutate_log(data: bytes, random: Random) -> bytes:
    """Change one event of a crypto-agile log with SHA-256 alone: its register, its type, its data with the size, its place."""
    head = 32 + int.from_bytes(data[28:32], "little")
    events: list[list[Any]] = []
    position = head
    while position + 50 <= len(data):
        pcr, kind, count, algorithm = struct.unpack_from("<IIIH", data, position)
        if (count, algorithm) != (1, 0x0B):
            break
        digest = data[position + 14 : position + 46]
        size = int.from_bytes(data[position + 46 : position + 50], "little")
        events.append([pcr, kind, digest, data[position + 50 : position + 50 + size]])
        position += 50 + size
    if not events or random.random() < 0.1:
        return mutate_bytes(data, random)
    at = random.randrange(len(events))
    match random.randint(0, 7):
        case 0:
            del events[at]
        case 1:
            events.insert(random.randrange(len(events)), list(events[at]))
        case 2:
            events[at][0] = random.choice((*range(24), 0xFFFFFFFF))
        case 3:
            events[at][1] = random.choice(events)[1]
        case _:
            events[at][3] = mutate_bytes(events[at][3], random)
    return data[:head] + b"".join(
        struct.pack("<IIIH", pcr, kind, 1, 0x0B) + digest + struct.pack("<I", len(body)) + body
        for pcr, kind, digest, body in events
    )


def mutate_list(data: bytes, random: Random) -> bytes:
    """Change one entry of a binary runtime list, with the sizes around what was changed."""
    entries: list[list[Any]] = []
    position = 0
    while position + 28 <= len(data):
        head = data[position : position + 24]
        size = int.from_bytes(data[position + 24 : position + 28], "little")
        name = data[position + 28 : position + 28 + size]
        position += 28 + size
        size = int.from_bytes(data[position : position + 4], "little")
        entries.append([head, name, data[position + 4 : position + 4 + size]])
        position += 4 + size
    if not entries or random.random() < 0.1:
        return mutate_bytes(data, random)
    entry = random.choice(entries)
    match random.randint(0, 5):
        case 0:
            entries.insert(random.randrange(len(entries)), list(entry))
        case 1:
            entry[0] = mutate_bytes(entry[0], random).ljust(24, b"\0")[:24]
        case 2:
            entry[1] = random.choice(
                (
                    b"ima",
                    b"ima-ng",
                    b"ima-sig",
                    b"ima-buf",
                    b"ima-modsig",
                    b"ima-ngv2",
                    b"ima-sigv2",
                    b"d-ng|n-ng|sig|xattrnames",
                    b"evm-sig",
                    mutate_bytes(entry[1], random),
                )
            )
        case 3:
            fields = _sized(entry[2])
            field = random.randrange(len(fields)) if fields else 0
            if fields:
                fields[field] = mutate_bytes(fields[field], random)
            entry[2] = b"".join(len(one).to_bytes(4, "little") + one for one in fields)
        case _:
            entry[2] = mutate_bytes(entry[2], random)
    return b"".join(
        head + len(name).to_bytes(4, "little") + name + len(body).to_bytes(4, "little") + body
        for head, name, body in entries
    )


def _sized(data: bytes) -> list[bytes]:
    found = []
    position = 0
    while position + 4 <= len(data):
        size = int.from_bytes(data[position : position + 4], "little")
        found.append(data[position + 4 : position + 4 + size])
        position += 4 + size
    return found


BETWEEN: Final = b"\0\0\0-- next file --\0\0\0"
"""What stands between two files that are one input."""


def mutate_joined(data: bytes, random: Random) -> bytes:
    """Change one of several files by what it looks like. One byte before a file may be its name."""
    files = data.split(BETWEEN)
    at = random.randrange(len(files))
    name = files[at][:1] if files[at][:1] < b"\x20" else b""
    body = files[at][len(name) :]
    if body[:1] == b"{":
        body = mutate_json(body, random)
    elif body[:1] == b"\x30":
        body = mutate_der(body, random)
    elif b"Spec ID Event03" in body[:64]:
        body = mutate_log(body, random)
    else:
        body = mutate_bytes(body, random)
    files[at] = name + body
    return BETWEEN.join(files)


def mutate_records(data: bytes, random: Random) -> bytes:
    """Change one of several records, by what they look like: a JSON sequence, JSON, DER, CBOR; anything else byte by byte."""
    if data[:1] == b"\x1e":
        pieces = data[1:].split(b"\x1e")
        at = random.randrange(len(pieces))
        pieces[at] = mutate_json(pieces[at], random)
        return b"".join(b"\x1e" + piece for piece in pieces)
    if data[:1] in (b"{", b"["):
        return mutate_json(data, random)
    if data[:1] == b"\x30":
        return mutate_der(data, random)
    return mutate_cbor(data, random) if data[:1] >= b"\x80" else mutate_bytes(data, random)


def mutate_armor(data: bytes, random: Random) -> bytes:
    """Change a string inside an armored SSH signature, or inside a bare SSH structure, and the lengths around it."""
    lines = data.strip().split(b"\n")
    if len(lines) < 3 or not lines[0].startswith(b"-----BEGIN"):
        return _mutate_strings(data, random)
    try:
        blob = base64.b64decode(b"".join(lines[1:-1]))
    except ValueError:
        return mutate_bytes(data, random)
    made = base64.b64encode(blob[:10] + _mutate_strings(blob[10:], random))
    return b"\n".join((lines[0], *(made[at : at + 70] for at in range(0, len(made), 70)), lines[-1], b""))


def _mutate_strings(data: bytes, random: Random, depth: int = 0) -> bytes:
    parts, position = [], 0
    while position + 4 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        if position + 4 + size > len(data):
            break
        parts.append(data[position + 4 : position + 4 + size])
        position += 4 + size
    if not parts or depth > 2:
        return mutate_bytes(data, random)
    at = random.randrange(len(parts))
    match random.randint(0, 7):
        case 0:
            del parts[at]
        case 1:
            parts.insert(at, random.choice(parts))
        case 2:
            parts[at] = random.choice(_SSH_NAMES)
        case 3:
            return data[:position] + mutate_bytes(data[position:], random)
        case _:
            parts[at] = _mutate_strings(parts[at], random, depth + 1)
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts) + data[position:]


def mutate_disk(data: bytes, random: Random) -> bytes:
    """Change a partition table and write its two checksums anew."""
    made = bytearray(mutate_bytes(data, random).ljust(1024 + 92, b"\0"))
    size, start, count, width = (int.from_bytes(made[at : at + 4], "little") for at in (524, 584, 592, 596))
    entries = made[start * 512 : start * 512 + count * width]
    made[600:604] = crc32(entries).to_bytes(4, "little")
    made[528:532] = bytes(4)
    made[528:532] = crc32(made[512 : 512 + min(size, 512)]).to_bytes(4, "little")
    return bytes(made)


def mutate_places(data: bytes, random: Random) -> bytes:
    """Change one to four numbers where something stands, and move nothing: for images, in which everything has its offset."""
    made = bytearray(data)
    places = [at for at in range(0, len(made), 4) if any(made[at : at + 4])]
    for _ in range(random.randint(1, 4) if places else 0):
        at = random.choice(places) + random.choice((0, 0, 1, 2))
        size = random.choice((1, 2, 4, 4, 8))
        old = int.from_bytes(made[at : at + size], "little")
        near = (old + random.choice((-1, 1, 8, 512))) % (1 << 8 * size)
        number = random.choice(
            (near, old ^ 1 << random.randrange(8 * size), random.choice(_NUMBERS), random.choice(places) // 1024)
        )
        made[at : at + size] = (number & ((1 << 8 * size) - 1)).to_bytes(size, "little")[: max(0, len(made) - at)]
    return bytes(made)


def mutate_tar(data: bytes, random: Random) -> bytes:
    """Change a header of a tar archive and write its checksum anew; compressed and other archives byte by byte."""
    if data[257:262] != b"ustar":
        return mutate_bytes(data, random)
    made = bytearray(data)
    at = random.randrange(0, len(made), 512)
    head = bytearray(mutate_bytes(bytes(made[at : at + 512]), random).ljust(512, b"\0")[:512])
    if random.random() < 0.4:
        head[156] = random.choice(b"01234567xgLKS\0")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    made[at : at + 512] = head
    return bytes(made)


MUTATORS: Final[dict[str, Mutator]] = {
    "bytes": mutate_bytes,
    "cbor": mutate_cbor,
    "json": mutate_json,
    "der": mutate_der,
    "log": mutate_log,
    "list": mutate_list,
    # The first byte chooses the message.
    "message": lambda data, random: data[:1] + mutate_cbor(data[1:], random),
    "joined": mutate_joined,
    "disk": mutate_disk,
    "records": mutate_records,
    "places": mutate_places,
    "armor": mutate_armor,
    "tar": mutate_tar,
    "jsonmessage": lambda data, random: data[:1] + mutate_json(data[1:], random),
}


def mutate(data: bytes, random: Random, *, form: str, words: Sequence[bytes]) -> bytes:
    """Return a mutation of `data`: half of the time one that respects its form."""
    if form == "bytes" or random.random() < 0.4:
        return mutate_bytes(data, random, words)
    return MUTATORS[form](data, random)


def _nested(count: int, tag: int = 0x30) -> bytes:
    made = b""
    for _ in range(count):
        made = bytes((tag,)) + _length(len(made)) + made
    return made


_PARTS: Final = (
    *(b"\0", b"\xff", b"[", b'{"a":', b"[[],", b"\x81", b"\xa1\x60", b"\x9f", b"\xbf\x60", b"\xd8\x20", b"\x5f"),
    *(b"<a>", b"<a xmlns:b='c'>", b"<a b='c'/>", b"0\x80", b"0\x84\0\1\0\0", b"- ", b"a: ", b"? ", b"{", b"&a *a "),
    *(b"\n", b",", b"\r", b"|", b'"', b"#\n", b"%41", b"=", b"A", b"-----BEGIN CERTIFICATE-----\n", b"\x10\x01\x00"),
    *(b"4294967295 ", b"1" * 5000, b"1e9,", b"\xc2\x80", b"\xed\xa0\x80", b"\xef\xbb\xbf"),
)
_REPEATED: Final = tuple((part * (size // len(part)))[:size] for size in (300, 60_000) for part in _PARTS)

NESTED: Final = (*_REPEATED[: len(_PARTS)], _nested(200), _nested(6000), _nested(6000, 0xA0), _nested(6000, 0x04))
"""Inputs that go deep, if a reader follows them, and are quickly read if it does not."""
HOSTILE: Final = (b"", b"\x01", *_REPEATED, *NESTED[len(_PARTS) :])
"""Inputs that are hostile to one reader or another: nested, repeated, huge, empty. Every target gets all of them."""
