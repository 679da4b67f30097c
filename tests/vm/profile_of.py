"""The profile of the good machine: what only a boot shows is learnt, what lies in the files is taken from the files."""

import hashlib
from pathlib import Path
from typing import Any, Final

import image
import system
import yaml

_VARYING: Final = "/var/lib/*"
"""What the agent writes itself, and reads again: the TPM and the verifier judge it, no list of digests can."""


def complete(learnt: Path, parts: image.Parts, *, output: Path) -> tuple[Path, tuple[str, ...]]:
    """Write the learnt profile with the digests of all files of the image as its allow list; return it and a summary."""
    document: dict[str, Any] = yaml.safe_load(learnt.read_text())
    ramdisk = {f"/{name}": hashlib.sha256(content).hexdigest() for name, content in parts.ramdisk().items()}
    files = system.files_of(parts.root) | ramdisk
    allowed = {path: [f"sha256:{digest}"] for path, digest in files.items()}
    document["profile"] = output.stem
    document["runtime"] = {"check": "required", "violations": "refuse", "exclude": [_VARYING], "allow": allowed}
    output.write_text(yaml.safe_dump(document, sort_keys=False))
    return output, (f"{len(document['claims'])} claims, {len(allowed)} files",)
