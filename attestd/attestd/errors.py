"""The verifier's one exception for whatever it refuses: a stable reason for the caller, a detail for the log."""

from attestd.protocol.messages import Finding
from attestd.protocol.reasons import Reason


class Refused(Exception):
    """A request is refused and nothing was changed.

    `reason` goes to the caller; `detail` only to the log, for it may name expected values; `findings` go to a device that
    has proved its TPM; `nonce` lets it repeat at once; `retry_after` is in seconds.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str = "",
        *,
        findings: tuple[Finding, ...] = (),
        nonce: bytes | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail
        self.findings = findings
        self.nonce = nonce
        self.retry_after = retry_after


class UnsafeConfiguration(Exception):
    """The configuration would be unsafe to serve with; `code` is stable, the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
