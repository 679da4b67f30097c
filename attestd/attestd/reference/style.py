"""Who starts the kernel: told by what boot loaders say of themselves.

Proves nothing: the texts are in the artefacts. Where they do not say it, nobody guesses.
"""

from collections.abc import Sequence
from typing import Final

from attestd.reference.boot import Style
from attestd.reference.files import ArtefactRefused
from attestd.reference.pe import Image
from attestd.reference.uki import is_unified

_SYSTEMD_BOOT: Final = b"#### LoaderInfo: systemd-boot "
_SHIM_GENERATION: Final = b"\nshim,"
_GRUB_GENERATION: Final = b"\ngrub,"
_MAX_TEXT: Final = 64 << 10


def style_of(said: Style | None, started: Sequence[Image], *, kernel: Image | None) -> Style | None:
    """Return who starts the kernel, or None where there is none.

    `said` is what a person says of it, `started` are the images before the kernel, in order. *Raises* `ArtefactRefused`
    ("predict-style", "predict-conflict").
    """
    if not started and kernel is None:
        return None
    found = _found(started, kernel)
    if said is None or found is None or said is found:
        if kernel is not None and (said or found) is None:
            raise ArtefactRefused(
                "predict-style", "who starts the kernel? Name the boot loader's file, or say --boot-loader"
            )
        return said or found
    raise ArtefactRefused("predict-conflict", f"the artefacts are started by {found}, not by {said}")


def is_shim(image: Image) -> bool:
    """Return whether an image is shim, which vouches itself for what is started after it."""
    return _SHIM_GENERATION in _text(image, ".sbat")


def is_systemd_boot(image: Image) -> bool:
    """Return whether an image is systemd's boot loader."""
    return _SYSTEMD_BOOT in _text(image, ".sdmagic")


def _found(started: Sequence[Image], kernel: Image | None) -> Style | None:
    if started and is_unified(started[-1]):
        return Style.UKI
    if kernel is None:
        return None
    if not started:
        return Style.DIRECT
    if is_systemd_boot(started[-1]):
        return Style.SYSTEMD_BOOT
    return Style.GRUB if _GRUB_GENERATION in _text(started[-1], ".sbat") else None


def _text(image: Image, name: str) -> bytes:
    section = image.section(name)
    return (
        b"" if section is None else bytes(image.data[section.offset : section.offset + min(section.stored, _MAX_TEXT)])
    )
