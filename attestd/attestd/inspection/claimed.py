"""Texts that lie beside evidence and are believed only where their hash is what was measured.

A unified kernel image and the kernel's own start code measure a command line whose text is in no log. Where somebody wrote it down
(`report.json` of an evidence directory: {"cmdline": "…"}), hashing it again proves it or throws it away.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from attestd.evidence.types import Component
from attestd.protocol.limits import MAX_FINDING_TEXT, MAX_JSON_BODY
from attestd.tpm.algorithms import hasher
from attestd.tpm.errors import Malformed

FILES: Final[Mapping[str, int]] = {"report.json": MAX_JSON_BODY}
_CLAIM: Final = "kernel-command-line"


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a machine says its command line is; nothing vouches for it by itself."""

    command_line: str | None = None

    def proven(self, component: Component, bank: str) -> Component:
        """Return the component with the claimed text as its value, where that text is what was measured."""
        text = self.command_line
        if text is None or component.claim != _CLAIM or component.value is not None:
            return component
        try:
            new = hasher(bank)
        except Malformed:
            return component
        # systemd's stub measures the section's bytes, the kernel's start code UTF-16 with its terminator.
        forms = (text.encode(), text.encode() + b"\0", (text + "\0").encode("utf-16-le"), text.encode("utf-16-le"))
        if any(new(form).digest() == component.digest for form in forms):
            return component._replace(value=text)
        return component


NOTHING: Final = Claimed()


def claimed_by(files: Mapping[str, bytes]) -> Claimed:
    """Return what the files of a directory claim; what cannot be read claims nothing."""
    try:
        document = json.loads(files.get("report.json", b"{}"))
        text = document.get("cmdline") if isinstance(document, dict) else None
        if isinstance(text, str) and 0 < len(text) <= MAX_FINDING_TEXT:
            text.encode()
            return Claimed(text.rstrip("\n"))  # /proc/cmdline ends a line
    except (ValueError, RecursionError):
        pass
    return NOTHING
