"""The agent's only way to the network: one verifier, one trust anchor, TLS 1.3.

Proves that every answer it returns came over a connection whose certificate chains to the configured anchor and names
the configured host (RFC 9525), and that it has the form of the protocol. Assumes nothing about DNS, routing, the system's
list of public authorities (which is not used) or proxies (which are ignored). Follows no redirect, offers no client
certificate: the quote is the authentication. Does not decide when to ask again; machine.py does.
"""

import hashlib
import hmac
import http.client
import json
import select
import ssl
import time
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from attestd.protocol import limits
from attestd.protocol.codec import CBOR, PROBLEM_JSON, SHAPES, MessageMalformed, array, decode, octets
from attestd.protocol.messages import PATH_ANCHOR, Finding
from attestd.protocol.reasons import PROBLEM_TYPE_PREFIX
from attestd_agent.errors import Problem, UnexpectedAnswer, Unreachable, UntrustedServer

M = TypeVar("M")

MAX_ANSWER: Final = 512 * limits.KIB
"""Bytes of one answer: four tunnel configurations of 64 KiB, a result of 64 KiB, a chain of 48 KiB, and as much again."""
MAX_PROBLEM: Final = 256 * limits.KIB
"""Bytes of a problem document: 256 findings of at most 1 KiB."""
EXCHANGE_SECONDS: Final = 60.0
"""From the first byte sent to the last received. A verifier answers within a second; a slow link carries 8 MiB at 1.2 Mbit/s."""
CONNECT_SECONDS: Final = 10.0
"""TCP and TLS handshake: ten retransmission-free round trips over a satellite."""
MAX_CODE: Final = 64
"""Characters of a reason code."""
MAX_FINDINGS: Final = 256
"""Findings of one problem, as in the messages."""

_CERTIFICATE_END: Final = "-----END CERTIFICATE-----"
_NONCE: Final = octets(limits.MIN_NONCE, limits.MAX_NONCE)
_FINDINGS: Final = array(SHAPES[Finding], MAX_FINDINGS)
_OUT_OF_TIME: Final = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_LINK_ENDED: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


@dataclass(frozen=True, slots=True)
class Server:
    """The verifier's address. `host` is the name that its certificate must have: lower case, no port."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        """Return host and port as a URL has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class _BoundedSocket(ssl.SSLSocket):
    """A TLS socket whose reads and writes all end at one deadline, so that a trickling peer cannot hold the agent."""

    deadline: float | None = None

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self._bound()
        return super().recv_into(*args, **kwargs)

    def send(self, *args: Any, **kwargs: Any) -> int:
        self._bound()
        return super().send(*args, **kwargs)

    def _bound(self) -> None:
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the exchange took too long")
            self.settimeout(left)


def _context(anchor_pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # host name and chain are checked from here on
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The anchor is what the operator named, be it a root, an intermediate or the server's own certificate.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.sslsocket_class = _BoundedSocket
    try:
        context.load_verify_locations(cadata=anchor_pem)
    except ssl.SSLError:
        raise UntrustedServer("the trust anchor is not a PEM certificate") from None
    return context


class Client:
    """A connection to one verifier, opened when needed and used again while the verifier keeps it open."""

    def __init__(self, server: Server, *, anchor_pem: str, seconds: float = EXCHANGE_SECONDS) -> None:
        """Hold the address and the anchor (PEM). *Raises* UntrustedServer where the anchor is no certificate."""
        self.server = server
        self.connections = 0
        """Connections opened since this object was made."""
        self.sent = 0
        """Bytes of bodies sent since this object was made."""
        self._seconds = seconds
        self._context = _context(anchor_pem)
        self._connection: http.client.HTTPSConnection | None = None

    def ask(self, path: str, body: bytes, *, answer: type[M]) -> M | Problem:
        """Post one message (application/cbor) and return the answer, or the verifier's refusal.

        *Raises* Unreachable, UntrustedServer, UnexpectedAnswer; after any of them the connection is closed.
        """
        try:
            status, media_type, content, retry_after = self._exchange(path, body)
        except BaseException:
            self.close()
            raise
        if status == 200 and media_type == CBOR:
            try:
                return decode(answer, content, CBOR)
            except MessageMalformed as error:
                raise UnexpectedAnswer(f"{self.server.authority} answered with another message: {error}") from None
        if 400 <= status < 600 and media_type == PROBLEM_JSON:
            return read_problem(status, content, retry_after=retry_after)
        raise UnexpectedAnswer(_not_ours(self.server, status, media_type))

    def close(self) -> None:
        """Close the connection, if one is open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, path: str, body: bytes) -> tuple[int, str, bytes, str | None]:
        with _translated(self.server):
            connection = self._open()
            _set_deadline(connection, self._seconds)
            # Three headers and no more: a fleet on a metered link pays for each of them once a minute.
            connection.putrequest("POST", path, skip_accept_encoding=True)
            connection.putheader("Content-Type", CBOR)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            self.sent += len(body)
            response = connection.getresponse()
            content = _read(response, MAX_ANSWER)
            media_type = response.headers.get_content_type()
            if response.will_close:
                self.close()
            return response.status, media_type, content, response.headers.get("Retry-After")

    def _open(self) -> http.client.HTTPSConnection:
        kept = self._connection
        if kept is not None and not _has_ended(kept):
            return kept
        self.close()
        made = _connect(self.server, self._context)
        self.connections += 1
        self._connection = made
        return made


def fetch_anchor(server: Server, *, fingerprint: bytes, seconds: float = EXCHANGE_SECONDS) -> str:
    """Return the PEM certificate whose SHA-256 is `fingerprint` (32 bytes), as the server at this address offers it.

    The connection is not verified and need not be: of everything that it carries, exactly the one certificate that the
    operator's fingerprint names is accepted, and nothing is sent. *Raises* Unreachable, UntrustedServer.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.sslsocket_class = _BoundedSocket
    with _translated(server):
        connection = _connect(server, context)
        try:
            _set_deadline(connection, seconds)
            connection.request("GET", PATH_ANCHOR)
            response = connection.getresponse()
            content = _read(response, MAX_PROBLEM)
        finally:
            connection.close()
    if response.status != 200:
        raise UnexpectedAnswer(_not_ours(server, response.status, response.headers.get_content_type()))
    return find_certificate(content.decode("ascii", "replace"), fingerprint=fingerprint)


def find_certificate(pem: str, *, fingerprint: bytes) -> str:
    """Return the one certificate of a PEM text that has this SHA-256, alone. *Raises* UntrustedServer where none has."""
    for block in pem.split(_CERTIFICATE_END)[:-1][: limits.MAX_CHAIN_DEPTH]:
        start = block.rfind("-----BEGIN CERTIFICATE-----")
        try:
            der = ssl.PEM_cert_to_DER_cert(block[start:] + _CERTIFICATE_END) if start >= 0 else b""
        except ValueError:
            continue
        if der and hmac.compare_digest(hashlib.sha256(der).digest(), fingerprint):
            return ssl.DER_cert_to_PEM_cert(der)
    raise UntrustedServer(
        "the server offers no trust anchor with the pinned fingerprint: it is another server, or its anchor was replaced. "
        "Compare the fingerprint in the configuration with the one that the verifier's operator gives"
    )


def read_problem(status: int, content: bytes, *, retry_after: str | None) -> Problem:
    """Return the problem document (RFC 9457) as a value. *Raises* UnexpectedAnswer where it is not one of the protocol."""
    try:
        document = json.loads(content)
        code = document["code"]
        if document["type"] != PROBLEM_TYPE_PREFIX + code or not 0 < len(code) <= MAX_CODE:
            raise MessageMalformed("type and code differ")
        return Problem(
            status=status,
            code=_text(code),
            title=_text(document.get("title")),
            detail=_text(document.get("detail")),
            advice=_text(document.get("advice")),
            retry_after=_seconds(retry_after),
            nonce=_nonce(document.get("nonce")),
            findings=_FINDINGS(document.get("findings", []), True, "findings"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UnexpectedAnswer(
            f"the verifier refused with status {status} and gave no reason that can be read"
        ) from None


# --- Parts of an exchange --------------------------------------------------------------------------------------------


def _connect(server: Server, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    connection = http.client.HTTPSConnection(server.host, server.port, context=context, timeout=CONNECT_SECONDS)
    connection.auto_open = False  # a second connection is opened here or not at all
    connection.connect()
    return connection


def _set_deadline(connection: http.client.HTTPSConnection, seconds: float) -> None:
    sock = connection.sock
    if not isinstance(sock, _BoundedSocket):  # http.client drops the socket of a connection that ended
        raise Unreachable("the connection ended")
    sock.deadline = time.monotonic() + seconds


def _has_ended(connection: http.client.HTTPSConnection) -> bool:
    """Say whether a kept connection is of no more use: closed, or holding bytes that nobody asked for."""
    sock = connection.sock
    if sock is None:
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _read(response: http.client.HTTPResponse, most: int) -> bytes:
    content = response.read(most + 1)
    if len(content) > most:
        raise UnexpectedAnswer(f"the answer is longer than {most} bytes")
    return content


class _translated:
    """Turn what the standard library raises during an exchange into the agent's own errors."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        where = self._server.authority
        if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _OUT_OF_TIME:
            raise UntrustedServer(
                f"{where} has a certificate out of its time: {error.verify_message}. Nothing was sent. Check this device's "
                "clock first, then the verifier's certificate"
            ) from None
        if isinstance(error, ssl.SSLCertVerificationError):
            raise UntrustedServer(
                f"{where} is not the verifier: {error.verify_message}. Nothing was sent. Check the server's name and the "
                "trust anchor in the configuration; if both are right, something stands between"
            ) from None
        if isinstance(error, ssl.SSLError) and not isinstance(error, _LINK_ENDED):
            raise UntrustedServer(
                f"{where} does not speak TLS 1.3: {error.reason or error}. Nothing was sent"
            ) from None
        if isinstance(error, OSError):
            raise Unreachable(f"{where} cannot be reached: {error.strerror or error}") from None
        if isinstance(error, http.client.HTTPException):
            raise UnexpectedAnswer(f"{where} does not speak HTTP: {type(error).__name__}") from None


def _not_ours(server: Server, status: int, media_type: str) -> str:
    if 300 <= status < 400:
        return f"{server.authority} redirects ({status}), which the agent never follows: configure the verifier's own address"
    return f"{server.authority} answered {status} with {media_type[:64]!r}, which is not the verifier's: is it a proxy?"


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not value.isprintable():
        raise MessageMalformed("not a printable text")
    return value[: limits.MAX_TEXT]


def _seconds(value: str | None) -> int | None:
    # RFC 9110, 10.2.3 also allows a date; the verifier sends seconds, and a device's clock may be wrong.
    return int(value) if value and value.isascii() and value.isdigit() and len(value) <= 9 else None


def _nonce(value: object) -> bytes | None:
    if value is None:
        return None
    nonce: bytes = _NONCE(value, True, "nonce")
    return nonce
