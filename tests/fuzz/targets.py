"""Every fuzz target by its name: one table, made of one part for each kind of source."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fuzz import of_agent, of_inspection, of_pki, of_policy, of_protocol, of_reference, of_tpm
from fuzz.target import LONGEST, Target
from testdata import TESTDATA

PARTS: Final = (of_tpm, of_protocol, of_pki, of_inspection, of_policy, of_agent, of_reference)

TARGETS: Final[dict[str, Target]] = {name: target for part in PARTS for name, target in part.TARGETS.items()}

if len(TARGETS) != sum(len(part.TARGETS) for part in PARTS):
    raise TypeError("two targets have one name")


def real_seeds(target: Target, *, most: int = LONGEST // 2) -> Iterator[bytes]:
    """Return what machines really wrote, of at most `most` bytes each, where such evidence lies beside the project."""
    for pattern in target.real:
        for path in sorted(Path(TESTDATA).glob(pattern)):
            if path.is_file() and path.stat().st_size <= most:
                yield path.read_bytes()
