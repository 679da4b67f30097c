"""What can go wrong on the device, as types, and what each means for whoever reads an exit code.

Proves nothing. Assumes that every error carries a sentence for a person: what happened, and what to do. The TPM's own
two errors live in tpm.py; cli.py is the one place that turns all of them into exit codes.
"""

from dataclasses import dataclass
from enum import IntEnum

from attestd.protocol.messages import Finding


class ExitCode(IntEnum):
    """What a one-shot command says to a script. Only 0 means that this device is trusted now."""

    TRUSTED = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    TPM = 4
    WAITING = 5


class AgentError(Exception):
    """An error of the agent's own; `exit_code` says what a one-shot command ends with."""

    exit_code = ExitCode.USAGE


class ConfigurationError(AgentError):
    """A setting is missing, unknown or unsafe. Trying again cannot help; the message says what to write where."""


class NotEnrolled(AgentError):
    """The command needs an enrolment, and there is none at this verifier."""

    exit_code = ExitCode.REFUSED


class StateDamaged(AgentError):
    """A file of the state directory is not what the agent wrote."""


class Unreachable(AgentError):
    """No verifier answered. Nothing was decided, and the same request may succeed later."""

    exit_code = ExitCode.UNREACHABLE


class UntrustedServer(Unreachable):
    """Something answered that is not the verifier: another certificate, name, anchor or TLS version (T06)."""


class UnexpectedAnswer(Unreachable):
    """The answer is not one of the protocol: a redirect, an oversized body, another media type, another form."""


@dataclass(frozen=True, slots=True)
class Problem:
    """The verifier's refusal (RFC 9457). `code` is a reason code, or one that this version does not know.

    `retry_after` is in seconds; `nonce` is the one to repeat the proof over; `findings` name what failed and never an
    expected value.
    """

    status: int
    code: str
    title: str
    detail: str = ""
    advice: str = ""
    retry_after: int | None = None
    nonce: bytes | None = None
    findings: tuple[Finding, ...] = ()
