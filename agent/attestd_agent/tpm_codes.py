"""What a response code of the TPM software stack means to the agent.

Pure data and one function. It assumes that the code came from a library of the TSS 2.0 family, which puts the layer
that failed into the upper half; it does not know any library.
"""

from typing import Final

from attestd_agent.tpm import Refusal, TpmRefused, TpmUnavailable

_FMT1: Final[dict[int, Refusal]] = {
    0x84: "malformed_input",  # VALUE
    0x85: "not_supported",  # HIERARCHY is disabled
    0x8E: "authorization_refused",  # AUTH_FAIL
    0x95: "malformed_input",  # SIZE
    0x9A: "malformed_input",  # INSUFFICIENT
    0x9D: "policy_not_met",  # POLICY_FAIL
    0x9F: "foreign_blob",  # INTEGRITY
    0xA2: "authorization_refused",  # BAD_AUTH
    0xA5: "foreign_blob",  # BINDING
    0xA6: "not_supported",  # CURVE
    0xA7: "foreign_blob",  # ECC_POINT
}
_FMT0: Final[dict[int, Refusal]] = {
    0x101: "self_test_failed",  # FAILURE
    0x143: "not_supported",  # COMMAND_CODE
    0x902: "out_of_memory",  # OBJECT_MEMORY
    0x903: "out_of_memory",  # SESSION_MEMORY
    0x904: "out_of_memory",  # MEMORY
    0x905: "out_of_memory",  # SESSION_HANDLES
    0x906: "out_of_memory",  # OBJECT_HANDLES
    0x921: "locked_out",  # LOCKOUT
}
# INITIALIZE, YIELDED, CANCELED, TESTING, NV_RATE, RETRY, NV_UNAVAILABLE: nothing was decided, ask again later.
_LATER: Final = frozenset({0x100, 0x908, 0x909, 0x90A, 0x920, 0x922, 0x923})

_LAYER_TPM: Final = frozenset({0x0, 0xC})  # the chip itself, or the chip through a resource manager
_LAYER_MARSHALLING: Final = 0x9
_LAYER_TRANSPORT: Final = frozenset({0xA, 0xB})


def refusal(rc: int, message: str) -> TpmUnavailable | TpmRefused:
    """Translate a TSS2 response code into one of the agent's two errors.

    Source: TSS 2.0 Overview and Common Structures 1.0, 3 (layers); TPM 2.0 Library, Part 2, 6.6 (TPM_RC).
    """
    layer, code = rc >> 16, rc & 0xFFFF
    text = f"{message} (0x{rc:x})"
    if layer in _LAYER_TPM:
        if code & 0x80:
            return TpmRefused(_FMT1.get(code & 0xBF, "other"), text, rc=rc)
        if code in _LATER:
            return TpmUnavailable(text)
        return TpmRefused(_FMT0.get(code, "other"), text, rc=rc)
    if layer in _LAYER_TRANSPORT:
        return TpmUnavailable(text)
    return TpmRefused("malformed_input" if layer == _LAYER_MARSHALLING else "other", text, rc=rc)
