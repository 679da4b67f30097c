"""Unified kernel images: which sections systemd's stub measures, and what it hands to the kernel (systemd-stub(7), UAPI.5).

Proves that what is returned are the sections as the stub finds them in memory, in the order of its own table. Which of them a stub
measures is read from the stub: it looks for the names that it has in it, and distributions add names to old versions. Assumes
systemd's stub; an image whose stub it cannot tell, or that leaves a choice to the machine, is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from attestd.reference.companions import archive, padding
from attestd.reference.files import ArtefactRefused
from attestd.reference.pe import Bytes, Image, Section

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
_COMPANIONS: Final = ((".pcrsig", "tpm2-pcr-signature.json"), (".pcrpkey", "tpm2-pcr-public-key.pem"))
"""Sections that the kernel finds as files beside the ramdisk, in this order."""
_DESCRIPTION: Final = "os-release"
"""A stub with this name in it (since 257) hands on the system's description, too."""
_MAX_STUB: Final = 4 << 20
_MAX_LINE: Final = 64 << 10
_MAX_FILE: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class UnifiedKernel:
    """One unified kernel image: `sections` are (name, content) in the order of their measurement.

    `command_line` is what the kernel is handed unless something overrides it, None without the section. `initrd` are the parts of
    the ramdisk that the kernel gets, one behind the other; empty without any.
    """

    stub: str
    sections: tuple[tuple[str, Bytes], ...]
    kernel: Bytes
    command_line: str | None
    initrd: tuple[Bytes, ...]


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
    return UnifiedKernel(
        stub=stub,
        sections=sections,
        kernel=found[".linux"],
        command_line=_line(found[".cmdline"]) if ".cmdline" in found else None,
        initrd=_ramdisk(image, code, present),
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


def _ramdisk(image: Image, code: bytes, present: Mapping[str, Section]) -> tuple[Bytes, ...]:
    """Return what the stub hands on as ramdisk: microcode first, then the ramdisk, then its own archives."""
    parts = [image.content(present[name]) for name in (".ucode", ".initrd") if name in present and _knows(code, name)]
    files = [
        (file, image.content(present[name])) for name, file in _COMPANIONS if name in present and _knows(code, name)
    ]
    if ".osrel" in present and _DESCRIPTION.encode("utf-16-le") in code:
        files.append((_DESCRIPTION, image.content(present[".osrel"])))
    if len(parts) + len(files) == 1 and parts:
        return (parts[0],)  # handed on where it lies, without padding
    for _, content in files:
        if len(content) > _MAX_FILE:
            raise ArtefactRefused(
                "uki-choice", "a section for the ramdisk is larger than any signature, key or description"
            )
    archives = [archive(file, bytes(content)) for file, content in files]
    return tuple(piece for part in parts for piece in (part, padding(len(part)))) + tuple(archives)


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
