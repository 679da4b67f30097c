"""The profile of the good machine, out of what was installed on it; only what firmware alone knows is learnt from a boot.

Every value of the boot chain and of every file is computed from the artefacts before any machine has booted them, by the
product's own commands. That a machine with another TPM then passes shows that the predictions are right.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

_ATTESTD: Final = str(Path(sys.executable).with_name("attestd"))
_SECONDS: Final = 120.0
_VARYING: Final = "/var/lib/*"
"""What the agent writes itself, and reads again: the TPM and the verifier judge it, no list of digests can."""


class NoProfile(Exception):
    """A command of the product that authors profiles failed; the message is its own."""


@dataclass(frozen=True, slots=True)
class Artefacts:
    """What is installed: the kernel image, the disk that it lies on, and the ramdisk in it."""

    image: Path
    disk: Path
    initrd: Path


@dataclass(frozen=True, slots=True)
class Foretold:
    """What the artefacts foretell: the claims, and the values that a register may have."""

    claims: frozenset[str]
    registers: dict[int, frozenset[str]]

    def wrong(self, evidence: Path) -> tuple[int, ...]:
        """Return the registers of a machine's evidence that are not as foretold."""
        measured = json.loads((evidence / "pcrs.json").read_text())["sha256"]
        return tuple(index for index, values in self.registers.items() if measured[str(index)] not in values)


def foretold(artefacts: Artefacts) -> Foretold:
    """Return what will be measured when these artefacts boot. *Raises* NoProfile."""
    document = _attestd("profile", "predict", *_boot(artefacts))
    registers: dict[int, frozenset[str]] = {}
    for one in document["registers"]:
        registers[one["pcr"]] = registers.get(one["pcr"], frozenset()) | {one["value"]}
    return Foretold(frozenset(one["claim"] for one in document["claims"]), registers)


def write(artefacts: Artefacts, evidence: Path, output: Path) -> tuple[str, ...]:
    """Write the profile of these artefacts on the firmware of this evidence; return what is in it, for people.

    *Raises* NoProfile.
    """
    learnt, files, firmware = (output.with_name(f"{name}.yaml") for name in ("learnt", "files", "firmware"))
    _attestd("profile", "learn", evidence, "--name", output.stem, "--output", learnt)
    listed = _attestd("profile", "files", "--all", artefacts.disk, artefacts.initrd, "--output", files)
    predicted = foretold(artefacts).claims
    document = yaml.safe_load(learnt.read_text())
    document["claims"] = {claim: rule for claim, rule in document["claims"].items() if claim not in predicted}
    document["runtime"] = yaml.safe_load(files.read_text())["runtime"] | {"exclude": [_VARYING]}
    firmware.write_text(yaml.safe_dump(document, sort_keys=False))
    _attestd("profile", "predict", *_boot(artefacts), "--onto", firmware, "--output", output)
    return (
        f"predicted from artefacts: {', '.join(sorted(predicted))}; {listed['paths']} files",
        f"learnt from the reference: {', '.join(document['claims'])}",
    )


def _boot(artefacts: Artefacts) -> tuple[str | Path, ...]:
    return "--uki", artefacts.image, "--disk", artefacts.disk, "--secure-boot", "off"


def _attestd(*arguments: str | Path) -> dict[str, Any]:
    """Run one command and return its JSON. *Raises* NoProfile."""
    command = [_ATTESTD, *map(str, arguments), "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NoProfile(f"attestd {arguments[0]} {arguments[1]} did not end within {_SECONDS:.0f} s") from None
    if done.returncode:
        raise NoProfile(
            f"attestd {arguments[0]} {arguments[1]} ended with {done.returncode}: {done.stderr.strip()[-600:]}"
        )
    document: dict[str, Any] = json.loads(done.stdout)
    return document
