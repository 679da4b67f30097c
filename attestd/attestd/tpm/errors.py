"""The two ways in which this room says no.

`Malformed`: the bytes are not the structure they claim to be. `BadSignature`: the structure is fine, the proof is not.
Both carry a stable code for logs and reason tables; neither carries key material or the offending bytes.
"""

from typing import Literal

MalformedCode = Literal[
    # any structure
    "structure-truncated",
    "structure-trailing",
    "structure-size",
    "algorithm-unknown",
    "curve-unknown",
    "scheme-unknown",
    # public area, key
    "public-kind",
    "public-attributes",
    "public-policy-size",
    "public-key-size",
    "public-exponent",
    "public-unique",
    "public-point",
    "credential-key",
    # attestation
    "attest-flag",
    "pcr-selection-count",
    "pcr-selection-size",
    "pcr-index",
    "pcr-value-missing",
    "pcr-value-size",
    # signature
    "signature-scheme-null",
    "signature-size",
    # event log
    "eventlog-size",
    "eventlog-header",
    "eventlog-version",
    "eventlog-algorithm-count",
    "eventlog-algorithm-unknown",
    "eventlog-algorithm-duplicate",
    "eventlog-algorithm-size",
    "eventlog-algorithm-undeclared",
    "eventlog-digest-count",
    "eventlog-digest-duplicate",
    "eventlog-pcr-index",
    "eventlog-event-count",
    "eventlog-event-size",
    "eventlog-locality",
    "eventlog-bank",
    "eventlog-record",
    # event data
    "eventdata-size",
    "eventdata-text",
    "eventdata-count",
    "eventdata-value",
    # runtime list
    "ima-size",
    "ima-entry-count",
    "ima-pcr-index",
    "ima-template-name",
    "ima-template-size",
    "ima-field",
    "ima-line",
    "ima-form",
]

SignatureCode = Literal["signature-invalid", "signature-scheme"]


class Malformed(ValueError):
    """Bytes that are not the structure they claim to be.

    `code` is stable and meant for machines; `where` is the offset in the bytes given to the parser, or None where an
    offset says nothing.
    """

    def __init__(self, code: MalformedCode, message: str, *, where: int | None = None) -> None:
        """Keep the code and the offset beside the sentence."""
        super().__init__(message if where is None else f"{message} (at offset {where})")
        self.code: MalformedCode = code
        self.where = where


class BadSignature(Exception):
    """A signature that does not prove the message under the key.

    `signature-scheme`: the scheme or hash is not one that this key may use. `signature-invalid`: everything fits except
    the mathematics.
    """

    def __init__(self, code: SignatureCode, message: str) -> None:
        """Keep the code beside the sentence."""
        super().__init__(message)
        self.code: SignatureCode = code
