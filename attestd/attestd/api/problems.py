"""The one translator from what the verifier refuses to what the caller is told (RFC 9457).

Details stay in the log: the caller gets the reason's fixed title and advice, a device that proved its TPM also the findings.
What is not a `Refused` is an opaque 500.
"""

import json
from typing import Any, Final

from attestd.errors import Refused
from attestd.protocol import codec
from attestd.protocol.reasons import PROBLEM_TYPE_PREFIX, PROBLEMS, Reason

_DEFAULT_RETRY: Final = {
    Reason.SERVER_BUSY: 30,
    Reason.INTERNAL: 60,
    Reason.MESSAGE_TIMEOUT: 5,
    Reason.DEVICE_UNANNOUNCED: 60,
}


def problem(refused: Refused) -> tuple[int, bytes, tuple[tuple[bytes, bytes], ...]]:
    """Return (status, problem document, extra headers) for a refusal."""
    known = PROBLEMS[refused.reason]
    document: dict[str, Any] = {
        "type": PROBLEM_TYPE_PREFIX + refused.reason.value,
        "title": known.title,
        "status": known.status,
        "code": refused.reason.value,
        "advice": known.advice,
    }
    if refused.reason is Reason.MESSAGE_MALFORMED and refused.detail:
        document["detail"] = refused.detail[
            :200
        ]  # the field and what its form should be: whoever writes a client needs it
    if refused.nonce is not None:
        document["nonce"] = codec.to_base64url(refused.nonce)
    if refused.findings:
        document["findings"] = [json.loads(codec.encode(finding, codec.JSON)) for finding in refused.findings]
    headers: tuple[tuple[bytes, bytes], ...] = ()
    wait = refused.retry_after or _DEFAULT_RETRY.get(refused.reason)
    if wait:
        headers += ((b"retry-after", str(wait).encode("ascii")),)
    if known.status == 401:
        headers += ((b"www-authenticate", b'Bearer realm="attestd"'),)
    return known.status, json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode(), headers


def internal() -> Refused:
    """Return the refusal that stands for everything unforeseen."""
    return Refused(Reason.INTERNAL)
