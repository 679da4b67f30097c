"""What Windows' boot manager and a few others log as tagged events, in words for people.

Names and types: `attestd.tpm.wbcl`. Two levels are told and no more. Nothing is decided by these texts.
"""

from typing import Final

from attestd.evidence.windows import windows_parts
from attestd.tpm.errors import Malformed
from attestd.tpm.wbcl import CONTAINER, NAMES, is_windows, tagged

_LONGEST_TEXT: Final = 300
_MOST_PARTS: Final = 40
_WIDE: Final = frozenset({0x00070001, 0x00050009, 0x0005000B, 0x00070005, 0x00070008, 0x00090001, 0x00050008})


def tagged_text(data: bytes, pcr: int) -> str:
    """Return tagged events in words, as the claims of their register where they are Windows'. *Raises* `Malformed`."""
    parts = windows_parts(pcr, data) if pcr > 11 else ()
    if parts:
        modules = sum(part.claim == "windows-module" for part in parts)
        told = [part.text for part in parts if part.claim != "windows-module"]
        images = [part.text for part in parts if part.claim == "windows-module" and not part.text.startswith("sha256:")]
        told += [f"{modules} images"] if modules else []
        return "; ".join((*told, *images[:_MOST_PARTS]))
    return "; ".join(_one(kind, body) for kind, body in tagged(data))


def _one(kind: int, body: bytes) -> str:
    name = NAMES.get(kind, f"tag 0x{kind:08x}")
    if kind not in NAMES or not kind & CONTAINER or not is_windows(kind):
        return f"{name}: {_value(kind, body)}"
    try:
        inner = list(tagged(body))
    except Malformed:
        return f"{name}: {_value(kind, body)}"
    return f"{name} ({', '.join(f'{NAMES.get(k, hex(k))} {_value(k, b)}' for k, b in inner[:_MOST_PARTS])})"


def _value(kind: int, body: bytes) -> str:
    if (kind in _WIDE and is_windows(kind)) or _is_wide(body):
        return body.decode("utf-16-le", "replace").rstrip("\0")[:_LONGEST_TEXT]
    text = body.rstrip(b"\0")
    if not is_windows(kind) and len(text) > 3 and text.isascii() and text.decode("ascii").isprintable():
        return text.decode("ascii")[:_LONGEST_TEXT]
    if kind & CONTAINER and is_windows(kind):
        return f"{len(body)} bytes"
    return str(int.from_bytes(body, "little")) if 0 < len(body) <= 8 else body[:48].hex() or "(empty)"


def _is_wide(body: bytes) -> bool:
    return len(body) >= 8 and len(body) % 2 == 0 and not any(body[1:-2:2]) and all(body[:-2:2])


def trust_point_text(data: bytes) -> str:
    """Return what Windows logs outside of every register: a quote of its own over what came before."""
    try:
        return f"Windows: {tagged_text(data, 0)}"
    except Malformed:
        return f"Windows: a trust point of {len(data)} bytes"
