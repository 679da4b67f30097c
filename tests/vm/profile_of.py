"""The profile of the good machine: the boot is learnt from a machine, the files are read in what was installed on it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import yaml

_ATTESTD: Final = str(Path(sys.executable).with_name("attestd"))
_SECONDS: Final = 120.0
_VARYING: Final = "/var/lib/*"
"""What the agent writes itself, and reads again: the TPM and the verifier judge it, no list of digests can."""


class NoProfile(Exception):
    """A command of the product that authors profiles failed; the message is its own."""


def write(evidence: Path, artefacts: tuple[Path, ...], output: Path) -> tuple[str, ...]:
    """Write the profile of a machine and of the places its files come from; return what is in it, for people.

    *Raises* NoProfile.
    """
    learnt, files = output.with_name("learnt.yaml"), output.with_name("files.yaml")
    _attestd("profile", "learn", evidence, "--name", output.stem, "--output", learnt)
    listed = _attestd("profile", "files", "--all", *artefacts, "--name", output.stem, "--output", files)
    document = yaml.safe_load(learnt.read_text())
    document["runtime"] = yaml.safe_load(files.read_text())["runtime"] | {"exclude": [_VARYING]}
    output.write_text(yaml.safe_dump(document, sort_keys=False))
    return (
        f"{len(document['claims'])} claims learnt from the reference; {listed['paths']} files listed, of none of them",
    )


def _attestd(*arguments: str | Path) -> dict[str, Any]:
    """Run one command and return its JSON. *Raises* NoProfile."""
    command = [_ATTESTD, *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode:
        raise NoProfile(
            f"attestd {arguments[0]} {arguments[1]} ended with {done.returncode}: {done.stderr.strip()[-600:]}"
        )
    document: dict[str, Any] = json.loads(done.stdout)
    return document
