"""Platform configuration registers: extending, digesting, initial values.

Pure arithmetic over digests: proves nothing alone. TPM 2.0 part 1, 17; PC client platform firmware profile 1.06.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from attestd.protocol.limits import PCR_COUNT
from attestd.tpm.algorithms import DIGEST_SIZES, HASH_IDS, hasher
from attestd.tpm.attest import PcrSelection
from attestd.tpm.errors import Malformed

_SELECT_SIZE: Final = 3
"""Bytes of a canonical bitmap: 24 registers (PC client platform TPM profile 1.05, 4.6.2)."""


def pcr_digest(values: Iterable[bytes], hash_name: str) -> bytes:
    """Return the digest over PCR values in the order given (TPM 2.0 part 1, 17.7)."""
    return bytes(hasher(hash_name)(b"".join(values)).digest())


def extend(hash_name: str, old: bytes, digest: bytes) -> bytes:
    """Return H(old || digest), the register's next value (TPM 2.0 part 1, 17.2)."""
    return bytes(hasher(hash_name)(old + digest).digest())


def initial_value(hash_name: str, pcr: int, *, startup_locality: int | None = None) -> bytes:
    """Return what a register holds before the first event of a boot log.

    Zero, except PCR 0, whose last byte is the locality of TPM2_Startup (firmware profile 1.06, 10.4.5.3). The dynamic
    registers 17 to 22 stand at all ones until a dynamic launch clears them; a log that extends them implies that launch.
    """
    size = DIGEST_SIZES[hash_name]
    if pcr or not startup_locality:
        return bytes(size)
    return bytes(size - 1) + bytes((startup_locality,))


def selected_values(selections: Sequence[PcrSelection], values: Mapping[str, Mapping[int, bytes]]) -> tuple[bytes, ...]:
    """Pick from values exactly what selections name, in the TPM's order: by selection, then ascending index.

    Values that no selection names are left behind: nothing may be decided by them.
    *Raises* `Malformed` ("pcr-value-missing", "pcr-value-size").
    """
    picked = []
    for selection in selections:
        bank = values.get(selection.algorithm, {})
        size = DIGEST_SIZES[selection.algorithm]
        for pcr in selection.pcrs:
            value = bank.get(pcr)
            if value is None:
                raise Malformed("pcr-value-missing", f"PCR {pcr} of {selection.algorithm} is quoted and was not sent")
            if len(value) != size:
                raise Malformed("pcr-value-size", f"PCR {pcr} of {selection.algorithm} has {len(value)} bytes")
            picked.append(value)
    return tuple(picked)


def selection(hash_name: str, pcrs: Iterable[int]) -> PcrSelection:
    """Return the canonical selection of these registers: ascending, each once, three bytes of bitmap.

    *Raises* `Malformed` ("algorithm-unknown", "pcr-index").
    """
    if hash_name not in HASH_IDS:
        raise Malformed("algorithm-unknown", f"hash algorithm {hash_name!r} is not known")
    indices = tuple(sorted(set(pcrs)))
    if indices and not 0 <= indices[0] <= indices[-1] < PCR_COUNT:
        raise Malformed("pcr-index", f"PCRs {indices[0]} to {indices[-1]}")
    return PcrSelection(hash_name, indices, _SELECT_SIZE)
