"""The routes that devices use: plain ASGI, CBOR in and out. docs/protocol.md is their specification.

What needs no database is refused before anything waits for one: form, size, server name, nonce.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import structlog

from attestd.api.batching import Batcher
from attestd.api.http import Receive, Scope, Send, media_type, read_body, respond
from attestd.api.problems import internal, problem
from attestd.errors import Refused
from attestd.protocol import codec, limits, messages
from attestd.protocol.messages import Attested, AttestRequest, EnrolProof, EnrolRequest
from attestd.protocol.reasons import Reason
from attestd.services import attest, enrol, publish
from attestd.services.context import Verifier

M = TypeVar("M")
Handler = Callable[[Scope, Receive], Awaitable[tuple[bytes, str]]]

_log = structlog.get_logger("attestd.devices")

PEM: Final = "application/x-pem-file"
PKIX_CRL: Final = "application/pkix-crl"


class DeviceRoutes:
    """An ASGI application for `PATH_*` of the protocol; `handles` says which paths are its."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="attest")
        self._slow = ThreadPoolExecutor(2, thread_name_prefix="enrol")
        self._batcher: Batcher[AttestRequest, Attested] = Batcher(
            lambda requests: attest.attest_batch(verifier, requests), self._executor
        )
        self._routes: dict[str, tuple[str, Handler]] = {
            messages.PATH_ATTEST: ("POST", self._attest),
            messages.PATH_ENROL: ("POST", self._enrol),
            messages.PATH_ENROL_PROOF: ("POST", self._prove),
            messages.PATH_ANCHOR: ("GET", self._anchor),
            messages.PATH_CRL: ("GET", self._crl),
        }

    def handles(self, path: str) -> bool:
        """Return whether this application answers at `path`."""
        return path in self._routes

    def close(self) -> None:
        """End the worker threads after what they are doing."""
        self._executor.shutdown(wait=True)
        self._slow.shutdown(wait=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever is refused becomes a problem document here and nowhere else."""
        method, handler = self._routes[scope["path"]]
        try:
            if scope["method"] != method:
                raise Refused(Reason.METHOD_NOT_ALLOWED)
            body, kind = await handler(scope, receive)
        except Refused as refused:
            await _refuse(scope, send, refused)
        except Exception:  # noqa: BLE001 (the outermost room: what is not foreseen is an opaque 500 and a log line)
            _log.exception("unforeseen", path=scope["path"])
            await _refuse(scope, send, internal())
        else:
            await respond(send, 200, body, kind)

    async def _attest(self, scope: Scope, receive: Receive) -> tuple[bytes, str]:
        message, _, kind = await _message(AttestRequest, scope, receive, limits.MAX_BODY)
        attest.check_nonce(self._verifier, message)
        try:
            answer = await self._batcher.submit(message)
        except Refused as refused:
            if refused.reason is not Reason.POLICY_UNAPPROVED:
                raise
            # A batch that began just before another thread learnt of a new change sees the chain without it, as after a
            # roll-back. At a second look only a roll-back is still there.
            answer = await self._batcher.submit(message)
        return codec.encode(answer, kind), kind

    async def _enrol(self, scope: Scope, receive: Receive) -> tuple[bytes, str]:
        message, body, kind = await _message(EnrolRequest, scope, receive, limits.MAX_ANONYMOUS_BODY)
        answer = await self._in_thread(enrol.challenge, self._verifier, message, body)
        return codec.encode(answer, kind), kind

    async def _prove(self, scope: Scope, receive: Receive) -> tuple[bytes, str]:
        message, _, kind = await _message(EnrolProof, scope, receive, limits.MAX_BODY)
        answer = await self._in_thread(enrol.prove, self._verifier, message, kind)
        return codec.encode(answer, kind), kind

    async def _anchor(self, _scope: Scope, _receive: Receive) -> tuple[bytes, str]:
        return self._verifier.anchor_pem, PEM

    async def _crl(self, _scope: Scope, _receive: Receive) -> tuple[bytes, str]:
        return await self._in_thread(publish.current_crl, self._verifier), PKIX_CRL

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._slow, work, *arguments)


async def _message(message: type[M], scope: Scope, receive: Receive, most: int) -> tuple[M, bytes, str]:
    """Return (message, its bytes, media type). Raises `Refused`."""
    kind = media_type(scope)
    body = await read_body(scope, receive, most=most)
    try:
        return codec.decode(message, body, kind), body, kind
    except codec.MessageMalformed as error:
        raise Refused(Reason.MESSAGE_MALFORMED, str(error)) from None


async def _refuse(scope: Scope, send: Send, refused: Refused) -> None:
    _log.info("refused", path=scope["path"], code=refused.reason.value, detail=refused.detail[:300])
    status, body, headers = problem(refused)
    if refused.reason in (Reason.MESSAGE_TIMEOUT, Reason.MESSAGE_TOO_LARGE, Reason.MEDIA_TYPE_UNSUPPORTED):
        headers += ((b"connection", b"close"),)  # the rest of the body is not waited for
    await respond(send, status, body, codec.PROBLEM_JSON, headers)
