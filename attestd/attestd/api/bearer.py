"""Bearer tokens of relying parties (RFC 6750): random, opaque, known to the verifier by their hash alone.

A token is `attestd_` and 43 characters of base64url, 256 random bits. It is not a JWT and never parsed as one: there is no
algorithm to confuse, no key to bring along, no claim to forge.
"""

import hashlib
import re
from collections.abc import Callable
from typing import Annotated, Final

from fastapi import Depends, Header, Request

from attestd.errors import Refused
from attestd.protocol.reasons import Reason
from attestd.services import relying
from attestd.services.context import Verifier

_FORM: Final = re.compile(r"Bearer (attestd_[A-Za-z0-9_-]{43})")


def verifier_of(request: Request) -> Verifier:
    """Return the verifier that this application serves."""
    verifier: Verifier = request.app.state.verifier
    return verifier


def requires(scope: str) -> Callable[..., relying.Caller]:
    """Return a dependency that lets callers with `scope` pass. Raises `Refused` (token-missing, token-invalid, token-scope)."""

    def check(
        verifier: Annotated[Verifier, Depends(verifier_of)], authorization: Annotated[str | None, Header()] = None
    ) -> relying.Caller:
        if not authorization:
            raise Refused(Reason.TOKEN_MISSING)
        match = _FORM.fullmatch(authorization)
        if match is None:
            raise Refused(Reason.TOKEN_INVALID, "not a token of this verifier")
        caller = relying.authenticate(verifier, hashlib.sha256(match.group(1).encode()).digest())
        if scope not in caller.scopes:
            raise Refused(Reason.TOKEN_SCOPE, scope)
        return caller

    return check
