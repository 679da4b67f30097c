"""The routes that devices use: plain ASGI, CBOR in and out. docs/protocol.md is their specification.

What needs no database is refused before anything waits for one: form, size, server name, nonce.
"""

from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import structlog

from attestd import clock
from attestd.api.batching import Batcher
from attestd.api.bodies import Bodies, Body
from attestd.api.http import Receive, Scope, Send, media_type, read_body, respond
from attestd.api.problems import internal, problem
from attestd.api.turns import Turns
from attestd.api.workers import Workers
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
        self._bodies = Bodies()
        self._turns = Turns()
        self._executors = tuple(ThreadPoolExecutor(1, thread_name_prefix=name) for name in ("attest", "attest-long"))
        routine, long = self._executors
        self._batcher: Batcher[AttestRequest, Attested] = Batcher(
            lambda requests: attest.attest_batch(verifier, requests), routine
        )
        self._long: Batcher[AttestRequest, Attested] = Batcher(
            self._attest_long, long, batch=1, waiting=limits.MAX_WAITING_LONG
        )
        self._challenges = Workers("challenge", threads=1, most=limits.MAX_WAITING_CHALLENGES)
        self._enrolments = Workers("enrol", threads=2, most=limits.MAX_WAITING_ENROLMENTS)
        self._public = Workers("public", threads=1, most=limits.MAX_WAITING_PUBLIC)
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
        for executor in self._executors:
            executor.shutdown(wait=True)
        for workers in (self._challenges, self._enrolments, self._public):
            workers.close()

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
        with self._bodies.hold() as held:
            message, _, kind = await _message(AttestRequest, scope, receive, limits.MAX_BODY, held)
            attest.check_nonce(self._verifier, message)
            batcher = self._batcher
            if _is_long(message):
                self._turns.check(message.device_id)
                batcher = self._long
            try:
                answer = await batcher.submit(message)
            except Refused as refused:
                if refused.reason is not Reason.POLICY_UNAPPROVED:
                    raise
                # A batch that began just before another thread learnt of a new change sees the chain without it, as after
                # a roll-back. At a second look only a roll-back is still there.
                answer = await batcher.submit(message)
        return codec.encode(answer, kind), kind

    def _attest_long(self, requests: Sequence[AttestRequest]) -> Sequence[Attested | Refused]:
        """Handle one long proof, if it is still its device's turn."""
        (request,) = requests
        self._turns.check(request.device_id)
        began = clock.thread_seconds()
        try:
            return attest.attest_batch(self._verifier, requests)
        finally:
            self._turns.took(request.device_id, clock.thread_seconds() - began)

    async def _enrol(self, scope: Scope, receive: Receive) -> tuple[bytes, str]:
        message, body, kind = await _message(EnrolRequest, scope, receive, limits.MAX_ANONYMOUS_BODY)
        answer = await self._challenges.run(enrol.challenge, self._verifier, message, body)
        return codec.encode(answer, kind), kind

    async def _prove(self, scope: Scope, receive: Receive) -> tuple[bytes, str]:
        with self._bodies.hold() as held:
            message, _, kind = await _message(EnrolProof, scope, receive, limits.MAX_BODY, held)
            answer = await self._enrolments.run(enrol.prove, self._verifier, message, kind)
        return codec.encode(answer, kind), kind

    async def _anchor(self, _scope: Scope, _receive: Receive) -> tuple[bytes, str]:
        return self._verifier.anchor_pem, PEM

    async def _crl(self, _scope: Scope, _receive: Receive) -> tuple[bytes, str]:
        return await self._public.run(publish.current_crl, self._verifier), PKIX_CRL


def _is_long(request: AttestRequest) -> bool:
    """Return whether routine proofs must not wait behind this one."""
    brought = len(request.event_log or b"") + len(request.runtime.entries if request.runtime else b"")
    return brought > limits.LONG_PROOF


async def _message(
    message: type[M], scope: Scope, receive: Receive, most: int, held: Body | None = None
) -> tuple[M, bytes, str]:
    """Return (message, its bytes, media type). Raises `Refused`."""
    kind = media_type(scope)
    body = await read_body(scope, receive, most=most, held=held)
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
