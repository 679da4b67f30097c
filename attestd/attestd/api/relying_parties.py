"""The routes of relying parties: is this device trusted, since when, until when, and by which result?"""

from collections.abc import Callable
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from attestd.api.bearer import requires, verifier_of
from attestd.api.http import respond
from attestd.api.problems import internal, problem
from attestd.errors import Refused
from attestd.protocol import codec
from attestd.protocol.reasons import Reason
from attestd.services import publish, relying
from attestd.services.context import Verifier

_log = structlog.get_logger("attestd.relying_parties")
router = APIRouter(prefix="/v1")
TrustReader = Annotated[relying.Caller, Depends(requires("trust:read"))]
DeviceReader = Annotated[relying.Caller, Depends(requires("devices:read"))]
TheVerifier = Annotated[Verifier, Depends(verifier_of)]


class TrustAnswer(BaseModel):
    """What a relying party learns of a device. Times are seconds since the epoch."""

    device_id: str
    name: str | None
    site: str | None
    state: str
    trusted: bool = Field(description="true only while the last proof holds and is in time")
    since: int
    expires: int | None = Field(description="when trust ends unless the device proves itself again")
    certificate_serial: str | None
    addresses: list[str]
    result: str | None = Field(description="the attestation result, an EAR (JWT), or null where there is none")


class DeviceLine(BaseModel):
    """One device in a list."""

    device_id: str
    name: str | None
    site: str | None
    state: str
    since: int


class DevicePage(BaseModel):
    """A page of devices; `after` is the id to continue from, or null at the end."""

    devices: list[DeviceLine]
    after: str | None


@router.get("/devices/{device_id}/trust", response_model=TrustAnswer)
def trust(
    device_id: str,
    caller: TrustReader,
    verifier: TheVerifier,
    response: Response,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response | TrustAnswer:
    """Say whether a device is trusted. `ETag` changes exactly when the answer does; `If-None-Match` gets 304."""
    answer = relying.trust(verifier, device_id, caller=caller)
    headers = {"ETag": f'"{answer.etag}"', "Cache-Control": "private, no-cache"}
    if if_none_match is not None and f'"{answer.etag}"' in if_none_match:
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return TrustAnswer(**answer.fields())


@router.get("/devices", response_model=DevicePage)
def devices(
    caller: DeviceReader,
    verifier: TheVerifier,
    after: str | None = None,
    state: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> DevicePage:
    """List the devices that the caller may see, by id."""
    lines, following = relying.list_devices(verifier, caller=caller, after=after, state=state, limit=limit)
    return DevicePage(devices=[DeviceLine(**line) for line in lines], after=following)


@router.get("/keys")
def keys(verifier: TheVerifier) -> dict[str, list[dict[str, str]]]:
    """Return the public keys of attestation results (JWK set, RFC 7517). Nothing here is secret."""
    return {"keys": [publish.result_jwk(verifier)]}


@router.get("/health")
def health(request: Request, verifier: TheVerifier) -> dict[str, str]:
    """Say that the verifier answers, that its database does, and that silent devices are expired."""
    publish.check_database(verifier)
    if not request.app.state.is_sweeping():
        raise Refused(Reason.SERVER_BUSY, "the sweep has not succeeded lately")
    return {"status": "ok"}


def application(verifier: Verifier, *, is_sweeping: Callable[[], bool]) -> FastAPI:
    """Return the application for everything but the devices' routes; `is_sweeping` says whether silent devices are expired."""
    # No redirects: an address is right or there is nothing, and no Host header finds its way into an answer.
    made = FastAPI(
        title="attestd", docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json", redirect_slashes=False
    )
    made.state.verifier = verifier
    made.state.is_sweeping = is_sweeping
    made.include_router(router)

    def answer(refused: Refused) -> Response:
        status, body, headers = problem(refused)
        plain = {name.decode(): value.decode() for name, value in headers}
        return Response(body, status, {**plain, "cache-control": "no-store"}, codec.PROBLEM_JSON)

    @made.exception_handler(Refused)
    async def _refused(_request: Request, error: Refused) -> Response:
        return answer(error)

    @made.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, _error: RequestValidationError) -> Response:
        return answer(Refused(Reason.MESSAGE_MALFORMED))

    @made.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> Response:
        return answer(Refused(Reason.METHOD_NOT_ALLOWED if error.status_code == 405 else Reason.NOT_FOUND))

    made.add_middleware(_Opaque)
    return made


class _Opaque:
    """Answers what is not foreseen with an opaque 500, and logs it as the devices' routes do.

    A handler of the framework would raise it again behind the answer, for the server to print in a form of its own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:  # noqa: BLE001 (the outermost room, as in devices.py)
            _log.exception("unforeseen", path=scope.get("path", "")[:200])
            if not begun:
                status, body, headers = problem(internal())
                await respond(send, status, body, codec.PROBLEM_JSON, headers)
