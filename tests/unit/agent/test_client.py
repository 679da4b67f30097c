"""The client against real TLS servers on loopback: the right one, and everything that pretends to be it."""

import contextlib
import datetime
import hashlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from attestd.protocol.codec import CBOR, PROBLEM_JSON, encode
from attestd.protocol.messages import PATH_ANCHOR, PATH_ATTEST, Attested, Finding, Next
from attestd_agent import client as client_module
from attestd_agent.client import MAX_ANSWER, Client, Server, fetch_anchor, find_certificate
from attestd_agent.errors import Problem, UnexpectedAnswer, Unreachable, UntrustedServer

ATTESTED = Attested("trusted", "jwt", Next(bytes(32), 60, 180))
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@dataclass
class Authority:
    """A private authority of this test run."""

    name: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.certificate = (
            _builder(self.name, self.name, self.key.public_key())
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def fingerprint(self) -> bytes:
        return self.certificate.fingerprint(hashes.SHA256())

    def issue(
        self,
        directory: Path,
        host: str = "localhost",
        *,
        usage: Any = ExtendedKeyUsageOID.SERVER_AUTH,
        begins: datetime.datetime = NOW - DAY,
    ) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = (
            _builder(host, self.name, key.public_key(), begins=begins)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        path = directory / f"{host}-{leaf.serial_number}.pem"
        pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(pkcs8 + leaf.public_bytes(Encoding.PEM))
        return path


def _builder(
    subject: str, issuer: str, key: ec.EllipticCurvePublicKey, *, begins: datetime.datetime = NOW - DAY
) -> x509.CertificateBuilder:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(NOW + DAY)
    )


class Handler(BaseHTTPRequestHandler):
    """Answers with what the test put into `server.answer`, and counts."""

    protocol_version = "HTTP/1.1"
    server: "Verifier"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, body, dict(self.headers)))
        self.server.answer(self)

    def do_GET(self) -> None:
        self.server.requests.append((self.path, b"", dict(self.headers)))
        self.server.answer(self)

    def reply(self, status: int, media_type: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Verifier(ThreadingHTTPServer):
    """A TLS server of one certificate."""

    daemon_threads = True

    def __init__(self, certificate: Path, *, most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = most
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.requests: list[tuple[str, bytes, dict[str, str]]] = []
        self.answer: Callable[[Handler], None] = lambda handler: handler.reply(200, CBOR, encode(ATTESTED, CBOR))
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def handle_error(self, *_: Any) -> None:
        pass

    @property
    def address(self) -> Server:
        return Server("localhost", self.server_address[1])

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("the verifier's anchor")


@pytest.fixture
def serve(authority: Authority, tmp_path: Path) -> Iterator[Callable[..., Verifier]]:
    running: list[Verifier] = []

    def start(certificate: Path | None = None, **options: Any) -> Verifier:
        running.append(Verifier(certificate or authority.issue(tmp_path), **options))
        return running[-1]

    yield start
    for verifier in running:
        verifier.end()


@pytest.fixture
def verifier(serve: Callable[..., Verifier]) -> Verifier:
    return serve()


@pytest.fixture
def client(verifier: Verifier, authority: Authority) -> Iterator[Client]:
    made = Client(verifier.address, anchor_pem=authority.pem, seconds=5)
    yield made
    made.close()


def attest(client: Client, body: bytes = b"proof") -> Attested | Problem:
    return client.ask(PATH_ATTEST, body, answer=Attested)


# --- The right server ---


def test_message_arrives_byte_for_byte_and_the_answer_comes_back(client: Client, verifier: Verifier) -> None:
    assert attest(client, b"\x00\xffproof") == ATTESTED
    path, body, headers = verifier.requests[0]
    assert (path, body, headers["Content-Type"]) == (PATH_ATTEST, b"\x00\xffproof", CBOR)


def test_open_connection_is_used_again(client: Client) -> None:
    for _ in range(3):
        attest(client)
    assert client.connections == 1


def test_connection_that_the_server_closed_is_replaced(client: Client, verifier: Verifier) -> None:
    def answer_and_close(handler: Handler) -> None:
        handler.reply(200, CBOR, encode(ATTESTED, CBOR))
        handler.close_connection = True

    verifier.answer = answer_and_close
    attest(client)
    time.sleep(0.2)
    assert attest(client) == ATTESTED
    assert client.connections == 2


def test_request_head_is_small(client: Client, verifier: Verifier) -> None:
    attest(client)
    assert set(verifier.requests[0][2]) == {"Host", "Content-Type", "Content-Length"}


def test_problem_is_read_with_nonce_findings_and_retry_after(client: Client, verifier: Verifier) -> None:
    document = {
        "type": "urn:attestd:problem:evidence-refused",
        "title": "The evidence does not meet the device's profile",
        "status": 403,
        "code": "evidence-refused",
        "detail": "untrusted",
        "advice": "A person must look at the device",
        "nonce": "_" * 43,
        "findings": [
            {"code": "claim-mismatch", "claim": "kernel", "component": "vmlinuz", "expected": "a listed kernel"}
        ],
    }
    document["nonce"] = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    body = json.dumps(document).encode()
    verifier.answer = lambda handler: handler.reply(403, PROBLEM_JSON, body, Retry_After="17")
    assert attest(client) == Problem(
        status=403,
        code="evidence-refused",
        title="The evidence does not meet the device's profile",
        detail="untrusted",
        advice="A person must look at the device",
        retry_after=17,
        nonce=bytes(range(32)),
        findings=(Finding("claim-mismatch", "kernel", "vmlinuz", "a listed kernel"),),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"code": "other"},
        {"type": "about:blank"},
        {"code": 7},
        {"title": ["x"]},
        {"detail": "\x1b[2J"},
        {"nonce": "short"},
        {"nonce": 5},
        {"findings": [{"code": "x"}]},
        {"findings": "x"},
        {"findings": [{"code": "c", "claim": "c", "component": "c", "expected": "e"}] * 257},
    ],
)
def test_problem_of_another_form_is_no_answer(change: dict[str, object]) -> None:
    document = {"type": "urn:attestd:problem:log-needed", "title": "t", "status": 409, "code": "log-needed"} | change
    with pytest.raises(UnexpectedAnswer):
        client_module.read_problem(409, json.dumps(document).encode(), retry_after=None)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_problem_that_is_no_document_is_no_answer(body: bytes) -> None:
    with pytest.raises(UnexpectedAnswer):
        client_module.read_problem(403, body, retry_after=None)


@pytest.mark.parametrize("text", ["-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", "9" * 40, "٣", ""])
def test_retry_after_that_is_no_small_number_of_seconds_is_ignored(text: str) -> None:
    body = json.dumps({"type": "urn:attestd:problem:log-needed", "code": "log-needed"}).encode()
    assert client_module.read_problem(409, body, retry_after=text).retry_after is None


# --- T06: something else answers ---


def test_t06_certificate_of_another_anchor_is_refused_and_nothing_is_sent(verifier: Verifier) -> None:
    stranger = Client(verifier.address, anchor_pem=Authority("a public authority").pem, seconds=5)
    with pytest.raises(UntrustedServer, match="is not the verifier"):
        attest(stranger)
    assert verifier.requests == []


def test_t06_certificate_for_another_name_is_refused_and_nothing_is_sent(
    serve: Callable[..., Verifier], authority: Authority, tmp_path: Path
) -> None:
    sibling = serve(authority.issue(tmp_path, "console.example"))
    with pytest.raises(UntrustedServer, match="localhost"):
        attest(Client(sibling.address, anchor_pem=authority.pem, seconds=5))
    assert sibling.requests == []


def test_t06_device_certificate_of_the_same_anchor_is_no_server_certificate(
    serve: Callable[..., Verifier], authority: Authority, tmp_path: Path
) -> None:
    device = serve(authority.issue(tmp_path, usage=ExtendedKeyUsageOID.CLIENT_AUTH))
    with pytest.raises(UntrustedServer):
        attest(Client(device.address, anchor_pem=authority.pem, seconds=5))
    assert device.requests == []


def test_certificate_out_of_its_time_points_to_the_clock(
    serve: Callable[..., Verifier], authority: Authority, tmp_path: Path
) -> None:
    early = serve(authority.issue(tmp_path, begins=NOW + DAY / 2))
    with pytest.raises(UntrustedServer, match="this device's clock"):
        attest(Client(early.address, anchor_pem=authority.pem, seconds=5))
    assert early.requests == []


def test_t06_tls_1_2_is_refused(serve: Callable[..., Verifier], authority: Authority) -> None:
    old = serve(most=ssl.TLSVersion.TLSv1_2)
    with pytest.raises(UntrustedServer, match=r"TLS 1\.3"):
        attest(Client(old.address, anchor_pem=authority.pem, seconds=5))
    assert old.requests == []


def test_t06_plain_http_is_refused(authority: Authority) -> None:
    with _raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as port, pytest.raises(UntrustedServer):
        attest(Client(Server("localhost", port), anchor_pem=authority.pem, seconds=5))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_t06_redirect_is_not_followed(client: Client, verifier: Verifier, status: int) -> None:
    location = f"https://localhost:{verifier.address.port}/elsewhere"
    verifier.answer = lambda handler: handler.reply(status, CBOR, b"", Location=location)
    with pytest.raises(UnexpectedAnswer, match="redirects"):
        attest(client)
    assert [path for path, _, _ in verifier.requests] == [PATH_ATTEST]


def test_t06_proxy_of_the_environment_is_not_used(
    client: Client, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert attest(client) == ATTESTED


def test_authorities_of_the_operating_system_are_not_used(
    verifier: Verifier, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    with pytest.raises(UntrustedServer):
        attest(Client(verifier.address, anchor_pem=Authority("another").pem, seconds=5))


def test_anchor_that_is_no_certificate_is_refused(verifier: Verifier) -> None:
    with pytest.raises(UntrustedServer):
        Client(verifier.address, anchor_pem="not a certificate")


# --- Answers that are none ---


def test_oversized_answer_is_refused(client: Client, verifier: Verifier) -> None:
    verifier.answer = lambda handler: handler.reply(200, CBOR, bytes(MAX_ANSWER + 1))
    with pytest.raises(UnexpectedAnswer, match="longer"):
        attest(client)


def test_answer_without_end_is_refused(client: Client, verifier: Verifier) -> None:
    def flood(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    verifier.answer = flood
    with pytest.raises(UnexpectedAnswer, match="longer"):
        attest(client)


def test_trickling_answer_ends_at_the_deadline(verifier: Verifier, authority: Authority) -> None:
    stopped = threading.Event()

    def trickle(handler: Handler) -> None:
        with contextlib.suppress(OSError):
            for byte in b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 200:
                handler.wfile.write(bytes((byte,)))
                if stopped.wait(0.05):
                    return

    verifier.answer = trickle
    impatient = Client(verifier.address, anchor_pem=authority.pem, seconds=0.5)
    began = time.monotonic()
    with pytest.raises(Unreachable):
        attest(impatient)
    stopped.set()
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("status", "media_type", "body"),
    [
        (200, "text/html", b"<html>log in</html>"),
        (200, CBOR, b"\xa0"),
        (200, CBOR, b"junk"),
        (204, CBOR, b""),
        (403, "text/html", b"<html>blocked</html>"),
        (502, "text/html", b"bad gateway"),
        (200, PROBLEM_JSON, b'{"type":"urn:attestd:problem:x","code":"x"}'),
    ],
)
def test_answer_of_somebody_else_is_not_the_verifiers(
    client: Client, verifier: Verifier, status: int, media_type: str, body: bytes
) -> None:
    verifier.answer = lambda handler: handler.reply(status, media_type, body)
    with pytest.raises(UnexpectedAnswer):
        attest(client)


def test_client_recovers_after_any_failure(client: Client, verifier: Verifier) -> None:
    good = verifier.answer
    verifier.answer = lambda handler: handler.reply(200, CBOR, bytes(MAX_ANSWER + 1))
    with pytest.raises(UnexpectedAnswer):
        attest(client)
    verifier.answer = good
    assert attest(client) == ATTESTED


def test_absent_verifier_is_unreachable_and_not_untrusted(authority: Authority) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unreachable, match="cannot be reached") as caught:
        attest(Client(Server("localhost", port), anchor_pem=authority.pem))
    assert not isinstance(caught.value, UntrustedServer)


def test_unknown_name_is_unreachable(authority: Authority) -> None:
    with pytest.raises(Unreachable) as caught:
        attest(Client(Server("verifier.invalid", 443), anchor_pem=authority.pem))
    assert not isinstance(caught.value, UntrustedServer)


def test_connection_that_ends_in_the_middle_is_unreachable(client: Client, verifier: Verifier) -> None:
    def hang_up(handler: Handler) -> None:
        handler.close_connection = True
        handler.connection.close()

    verifier.answer = hang_up
    with pytest.raises(Unreachable) as caught:
        attest(client)
    assert not isinstance(caught.value, UntrustedServer)


# --- The anchor by its fingerprint ---


def test_anchor_is_fetched_by_its_fingerprint_and_then_verifies(verifier: Verifier, authority: Authority) -> None:
    verifier.answer = lambda handler: handler.reply(200, "application/x-pem-file", authority.pem.encode())
    pem = fetch_anchor(verifier.address, fingerprint=authority.fingerprint)
    assert verifier.requests[0][0] == PATH_ANCHOR
    verifier.answer = lambda handler: handler.reply(200, CBOR, encode(ATTESTED, CBOR))
    with contextlib.closing(Client(verifier.address, anchor_pem=pem)) as made:
        assert attest(made) == ATTESTED


def test_t06_anchor_of_another_fingerprint_is_refused(verifier: Verifier, authority: Authority) -> None:
    forged = Authority("the verifier's anchor")
    verifier.answer = lambda handler: handler.reply(200, "application/x-pem-file", forged.pem.encode())
    with pytest.raises(UntrustedServer, match="pinned fingerprint"):
        fetch_anchor(verifier.address, fingerprint=authority.fingerprint)


def test_of_several_certificates_exactly_the_pinned_one_is_taken(authority: Authority) -> None:
    others = Authority("one").pem + authority.pem + Authority("two").pem
    assert find_certificate(others, fingerprint=authority.fingerprint) == authority.pem


@pytest.mark.parametrize(
    "pem", ["", "text", "-----END CERTIFICATE-----", "-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----"]
)
def test_pem_without_the_pinned_certificate_is_refused(pem: str) -> None:
    with pytest.raises(UntrustedServer):
        find_certificate(pem, fingerprint=hashlib.sha256(b"").digest()[:31] + b"\0")


def test_empty_certificate_matches_no_fingerprint() -> None:
    empty = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"
    with pytest.raises(UntrustedServer):
        find_certificate(empty, fingerprint=hashlib.sha256(b"").digest())


def test_oversized_anchor_is_refused(verifier: Verifier, authority: Authority) -> None:
    verifier.answer = lambda handler: handler.reply(
        200, "application/x-pem-file", b" " * (client_module.MAX_PROBLEM + 1)
    )
    with pytest.raises(UnexpectedAnswer, match="longer"):
        fetch_anchor(verifier.address, fingerprint=authority.fingerprint)


@contextlib.contextmanager
def _raw_server(answer: bytes) -> Iterator[int]:
    """Serve one connection with these bytes and without TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(2)
