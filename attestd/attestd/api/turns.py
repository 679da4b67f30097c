"""Whoever has occupied the verifier for long waits for longer, so that one device cannot occupy it all.

Counts the processor time of proofs, under the device that they name. A stranger who names another's device costs it nothing:
what is not signed by the device's own key is refused before anything in it takes time.
"""

import math
from typing import Final

from attestd import clock
from attestd.errors import Refused
from attestd.protocol import limits
from attestd.protocol.reasons import Reason
from attestd.services.memory import Memory

_DEVICES: Final = 16_384
"""Devices that are remembered, the latest first: each has taken `TURN_SECONDS` of processor time within the last minutes."""


class Turns:
    """When each device may occupy the verifier again. Used by several threads."""

    def __init__(self) -> None:
        self._until: Memory[str, float] = Memory(_DEVICES)

    def check(self, device_id: str) -> None:
        """Raise `Refused` (server-busy) while it is not this device's turn."""
        wait = (self._until.get(device_id) or 0.0) - clock.monotonic()
        if wait > 0:
            raise Refused(Reason.SERVER_BUSY, "the device's last proof took long", retry_after=math.ceil(wait))

    def took(self, device_id: str, seconds: float) -> None:
        """Remember that a proof of this device took `seconds` of processor time."""
        if seconds >= limits.TURN_SECONDS:
            self._until.put(device_id, clock.monotonic() + seconds * limits.TURN_PAUSE)
