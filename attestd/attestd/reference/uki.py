"""Unified kernel images: which sections systemd's stub measures, and what it hands to the kernel (systemd-stub(7), UAPI.5).

Proves that what is returned are the sections as the stub finds them in memory, in the order of its own table. Which of them a stub
measures is read from the stub: it looks for the names that it has in it, and distributions add names to old versions. Assumes
systemd's stub; an image whose stub it cannot tell, or that leaves a choice to the machine, is refused.
"""

import re
from dataclasses import dataclass
from typing import Final

from attestd.reference.files import ArtefactRefused
from attestd.reference.pe import Bytes, Image

ORDER: Final = (
    ".linux",
    ".osrel",
    ".cmdline",
    ".initrd",
    ".ucode",
    ".splash",
    ".dtb",
    ".uname",
    ".sbat",
    ".pcrpkey",
    ".profile",
    ".dtbauto",
    ".hwids",
    ".efifw",
)
"""The sections that stubs measure, in their order (unified_sections); .pcrsig, a signature over the result, is none of them."""
_STUB: Final = re.compile(rb"#### LoaderInfo: systemd-stub ([0-9]{3}[!-~]{0,60}) ####")
_CHOSEN: Final = (".profile", ".dtbauto", ".efifw")
"""Sections of which there can be several, and of which the boot entry or the hardware chooses."""
_COMPANIONS: Final = (".pcrsig", ".pcrpkey", ".ucode")
"""Sections that the stub packs into what it hands to the kernel as initial ramdisk."""
_WRAPS_DESCRIPTION: Final = "os-release".encode("utf-16-le")
"""A stub with this name in it puts the system's description into the ramdisk, too (/.extra/os-release)."""
_MAX_STUB: Final = 4 << 20
_MAX_LINE: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class UnifiedKernel:
    """One unified kernel image: `sections` are (name, content) in the order of their measurement.

    `command_line` is what the kernel is handed unless something overrides it, None without the section. `initrd` is the ramdisk as
    the kernel gets it, None where there is none or `packs` is true: then the stub adds files of its own to it.
    """

    stub: str
    sections: tuple[tuple[str, Bytes], ...]
    kernel: Bytes
    command_line: str | None
    initrd: Bytes | None
    packs: bool


def is_unified(image: Image) -> bool:
    """Return whether an image has a kernel in it."""
    return image.section(".linux") is not None


def unified_kernel(image: Image) -> UnifiedKernel:
    """Return what is in a unified kernel image.

    *Raises* `ArtefactRefused`: "uki-kernel" (no kernel), "uki-stub" (not systemd's), "uki-choice" (the machine chooses among
    sections), "uki-cmdline" (no text), and what `Image.content` raises.
    """
    if not is_unified(image):
        raise ArtefactRefused("uki-kernel", "not a unified kernel image: it has no section .linux")
    stub, code = _stub(image)
    present = {section.name: section for section in image.sections if section.size}
    for name in _CHOSEN:
        if name in present:
            raise ArtefactRefused(
                "uki-choice", f"the machine chooses among sections {name}: what it measures is not known before"
            )
    _require_single(image)
    sections = tuple((name, image.content(present[name])) for name in ORDER if name in present and _knows(code, name))
    found = dict(sections)
    if ".linux" not in found:
        raise ArtefactRefused("uki-stub", f"systemd-stub {stub} does not look for .linux: an unknown kind of stub")
    packs = any(name in present for name in _COMPANIONS) or (".osrel" in present and _WRAPS_DESCRIPTION in code)
    return UnifiedKernel(
        stub=stub,
        sections=sections,
        kernel=found[".linux"],
        command_line=_line(found[".cmdline"]) if ".cmdline" in found else None,
        initrd=None if packs else found.get(".initrd"),
        packs=packs,
    )


def _stub(image: Image) -> tuple[str, bytes]:
    """Return the stub's version, and everything in the image that is the stub's own."""
    own = [section for section in image.sections if section.name not in ORDER and section.name != ".pcrsig"]
    if sum(min(section.stored, section.size) for section in own) > _MAX_STUB:
        raise ArtefactRefused("uki-stub", "the stub's own sections are larger than any stub")
    code = b"\0".join(bytes(image.data[s.offset : s.offset + min(s.stored, s.size)]) for s in own)
    match = _STUB.search(code)
    if match is None:
        raise ArtefactRefused("uki-stub", "the image does not say which systemd-stub is in it")
    return match[1].decode("ascii"), code


def _knows(code: bytes, name: str) -> bool:
    return re.search(rb"(?<![\w.])" + re.escape(name.encode()) + rb"\0", code) is not None


def _require_single(image: Image) -> None:
    names = [section.name for section in image.sections if section.name in ORDER]
    for name in names:
        if names.count(name) > 1:
            raise ArtefactRefused("uki-choice", f"there are several sections {name}")


def _line(content: Bytes) -> str:
    """Return a command line as the stub hands it on: control characters are blanks, and blanks at the end are dropped.

    What comes of blanks at its beginning, and of DEL, depends on the stub: both are refused.
    """
    if len(content) > _MAX_LINE:
        raise ArtefactRefused("uki-cmdline", f"a command line of {len(content)} bytes")
    try:
        text = bytes(content).partition(b"\0")[0].decode("utf-8")
    except UnicodeDecodeError:
        raise ArtefactRefused("uki-cmdline", "the command line is not UTF-8") from None
    line = "".join(" " if character < " " else character for character in text).rstrip(" ")
    if line.startswith(" ") or "\x7f" in line:
        raise ArtefactRefused("uki-cmdline", "the command line begins with a blank, or has a DEL: stubs differ in that")
    return line
