"""What a process remembers so as not to compute it twice. Everything here can be lost at any time without harm.

A verdict is remembered under everything it depends on (profile, log, bank, register values), so a changed policy or a changed
boot never meets an old verdict. Both memories are bounded: a stranger can fill them and gains nothing.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from attestd.appraisal.appraise import BootVerdict
from attestd.evidence.types import EkIdentity
from attestd.tpm.public import Public

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

IDENTITIES: Final = 4096
"""Endorsement keys between the two messages of their enrolment, about 400 bytes each."""
KEYS: Final = 16_384
"""Attestation keys in use, about 1 KiB each."""
BOOTS: Final = 65_536
"""Distinct boots: a fleet of one image has a few hundred, one with per-device logs has one a device."""


class Memory(Generic[K, V]):
    """A bounded map that forgets what was used longest ago. Safe to use from several threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """Return what was remembered, or None."""
        with self._lock:
            value = self._items.get(key)
            if value is not None:
                self._items.move_to_end(key)
            return value

    def put(self, key: K, value: V) -> None:
        """Remember a value, and forget the oldest one beyond the bound."""
        with self._lock:
            self._items[key] = value
            self._items.move_to_end(key)
            while len(self._items) > self._most:
                self._items.popitem(last=False)


IdentityMemory = Memory[bytes, EkIdentity]
"""SHA-256 over (EK, certificates, two minutes of time) → identity: the second message of an enrolment walks no chain again."""

RememberedBoot = tuple[BootVerdict, tuple[tuple[int, bytes], ...]]
BootMemory = Memory[tuple[bytes, bytes, bytes], RememberedBoot]
"""(profile digest, log digest, PCR digest) → (verdict, register values)."""


KeyMemory = Memory[bytes, Public]
"""TPM2B_PUBLIC of an attestation key → the key, checked."""


def key_memory() -> KeyMemory:
    """Return an empty memory of attestation keys."""
    return Memory(KEYS)


RefusalMemory = Memory[tuple[str, str], int]
"""(device id, reason) → when such a refusal was last recorded."""


def refusal_memory() -> RefusalMemory:
    """Return an empty memory of refusals."""
    return Memory(IDENTITIES)


def identity_memory() -> IdentityMemory:
    """Return an empty memory of endorsement keys."""
    return Memory(IDENTITIES)


def boot_memory() -> BootMemory:
    """Return an empty memory of boots."""
    return Memory(BOOTS)
