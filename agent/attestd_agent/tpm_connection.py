"""One open connection to a TPM: sends commands, counts them, and flushes what they loaded.

The binding to the TCG software stack comes in as an argument (``tss``), so that this file imports none. Whatever the
binding raises leaves here as TpmRefused or TpmUnavailable. It knows no keys and no policy.

A trap of the binding (tpm2-pytss 3.0): a part of a structure is a view that does not keep the whole alive. Whoever
reads ``whole.part.field`` must hold ``whole`` in a variable, or reads freed memory.
"""

import time
from collections.abc import Callable
from typing import Any, Final

from attestd.protocol import limits
from attestd_agent.tpm import TpmRefused, TpmUnavailable
from attestd_agent.tpm_codes import refusal

SLOT_WAITS: Final = 20
SLOT_SECONDS: Final = 0.02
"""A command that finds no free slot is sent 20 times again over 0.4 s: a chip finishes a neighbour's signature in that time."""


class Connection:
    """A connection that is opened for one operation and closed after it."""

    def __init__(self, tss: Any, tcti: str) -> None:
        """Connect. Raises: TpmUnavailable."""
        self.tss = tss
        self.commands = 0
        self._held: list[Any] = []
        try:
            self._transport = self._guarded(tss.TCTILdr.parse, tcti)
        except TpmRefused as exc:
            # Whatever the loader calls it: without a transport there is no TPM.
            raise TpmUnavailable(f"no TPM at {tcti}: {exc}") from exc
        try:
            self._esys = self._guarded(tss.ESAPI, self._transport)
        except (TpmRefused, TpmUnavailable):
            self._transport.close()
            raise

    def run(self, command: str, *args: Any, **kwargs: Any) -> Any:
        """Send one TPM command and return what the binding returns. Raises: TpmRefused, TpmUnavailable.

        Where a neighbour on a chip without a resource manager holds its slots, waits for it a little: that neighbour
        may itself wait for us, so not for long.
        """
        waits = 0
        while True:
            self.commands += 1
            try:
                return self._guarded(getattr(self._esys, command), *args, **kwargs)
            except TpmRefused as exc:
                if exc.code != "out_of_memory" or waits == SLOT_WAITS:
                    raise
            waits += 1
            time.sleep(SLOT_SECONDS)

    def parse(self, kind: str, data: bytes) -> Any:
        """Return one marshalled structure that fills ``data`` exactly. Raises: TpmRefused ``malformed_input``."""
        if len(data) > limits.MAX_TPM_STRUCTURE:
            raise TpmRefused("malformed_input", f"{kind} of {len(data)} bytes")
        structure, used = self._guarded(getattr(self.tss, kind).unmarshal, data)
        if used != len(data):
            raise TpmRefused("malformed_input", f"{kind} ends after {used} of {len(data)} bytes")
        return structure

    def hold(self, handle: Any) -> Any:
        """Remember a transient object or a session, to be flushed when the operation ends; return it."""
        self._held.append(handle)
        return handle

    def release(self, handle: Any) -> None:
        """Flush a held object now: a bare chip has three slots."""
        self._held.remove(handle)
        self.run("flush_context", handle)

    def authorize(self, hierarchy: Any, value: bytes) -> Any:
        """Set the password that goes with a hierarchy on this connection; return the hierarchy."""
        if value:
            self._guarded(self._esys.tr_set_auth, hierarchy, value)
        return hierarchy

    def keep_session(self, session: Any) -> None:
        """Let a session outlive its use, so that flushing it is always right."""
        self._guarded(self._esys.trsess_set_attributes, session, self.tss.TPMA_SESSION.CONTINUESESSION)

    def flush(self) -> None:
        """Flush everything held, the last first, even where one is refused; raise the first refusal."""
        failure: TpmRefused | TpmUnavailable | None = None
        while self._held:
            try:
                self.run("flush_context", self._held.pop())
            except (TpmRefused, TpmUnavailable) as exc:
                failure = failure or exc
        if failure:
            raise failure

    def close(self) -> None:
        """Release the connection; never fails."""
        self._esys.close()
        self._transport.close()

    def handles(self, first: int) -> tuple[int, ...]:
        """Return the handles of the kind of ``first``, from it on: TPM2_GetCapability(HANDLES), Part 3, 30.2."""
        _, data = self.run("get_capability", self.tss.TPM2_CAP.HANDLES, first, 254)
        kind = first >> 24
        return tuple(int(item) for item in data.data.handles if int(item) >> 24 == kind)

    def _guarded(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call into the binding; what it raises becomes an error of the agent's own."""
        try:
            return function(*args, **kwargs)
        except self.tss.TSS2_Exception as exc:
            raise refusal(int(exc.rc), str(exc)) from exc
