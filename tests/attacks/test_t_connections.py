"""Callers who are slow, silent, endless, nested or not HTTP at all: each is bounded, and the next one is served."""

import contextlib
import gzip
import http.client
import re
import resource
import socket
import time
from collections.abc import Iterator

import cbor2
import pytest

from attacks.fixtures_pct import a_token, problem_code, refused, unchanged
from attestd.protocol import codec, limits
from attestd.protocol.messages import PATH_ATTEST, PATH_ENROL, PATH_ENROL_PROOF, EnrolChallenge
from softchip import SoftChip
from world import World, sqlite_world

pytest_plugins = ("attacks.fixtures_pct",)

PATIENCE = 15.0
"""Seconds that a test waits for what should happen within one: a busy machine must not fail it."""
POST = "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/cbor\r\n"


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verifier's patience, much shorter than it is."""
    monkeypatch.setattr(limits, "MAX_HEADER_SECONDS", 0.3)
    monkeypatch.setattr(limits, "MAX_BODY_SECONDS", 0.5)


@pytest.fixture(scope="module")
def standing_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One verifier for all that ends with a connection."""
    with sqlite_world(tmp_path_factory.mktemp("connections")) as made:
        made.golden(SoftChip(made.now_s))
        yield made
    made.verifier.store.close()


@pytest.fixture
def served(standing_fleet: World) -> Iterator[World]:
    """The verifier, which must serve after the test as it did before, and have changed nothing."""
    with unchanged(standing_fleet):
        yield standing_fleet
    assert serves(standing_fleet)


def serves(fleet: World) -> bool:
    """Return whether the verifier answers at once; a busy machine is asked again."""
    for _ in range(3):
        began = time.monotonic()
        with contextlib.suppress(OSError, http.client.HTTPException):
            if fleet.call("GET", "/v1/health")[0] == 200 and time.monotonic() - began < PATIENCE / 3:
                return True
    return False


def connect(fleet: World, *, receive_buffer: int | None = None) -> socket.socket:
    caller = socket.socket()
    if receive_buffer:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    caller.settimeout(PATIENCE)
    caller.connect(("127.0.0.1", fleet.port))
    return caller


def read_all(caller: socket.socket) -> bytes:
    """Return what the verifier still says before it ends the connection."""
    said = b""
    try:
        while part := caller.recv(65_536):
            said += part
    except ConnectionError:
        pass
    return said


def is_reset(caller: socket.socket) -> bool:
    """Return whether the verifier ends the connection, without reading what it has said."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            caller.sendall(b"x")
        except ConnectionError:
            return True
        time.sleep(0.1)
    return False


def trickle(caller: socket.socket, text: bytes, *, pause: float = 0.05) -> float:
    """Send byte after byte until the other side ends the connection; return the seconds that took."""
    began = time.monotonic()
    caller.settimeout(pause)
    for byte in text:
        try:
            caller.sendall(bytes([byte]))
            if caller.recv(65_536) == b"":
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    else:
        pytest.fail("the connection was not ended")
    return time.monotonic() - began


# --- Slow ---------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short_limits")
@pytest.mark.attack("T03")
def test_t03_a_head_that_trickles_is_cut_off(served: World) -> None:
    with connect(served) as caller:
        assert 0.2 < trickle(caller, b"GET /v1/health HTTP/1.1\r\nx: " + b"a" * 1000) < PATIENCE


@pytest.mark.usefixtures("short_limits")
@pytest.mark.attack("T03")
def test_t03_a_second_head_that_trickles_is_cut_off(served: World) -> None:
    with connect(served) as caller:
        caller.sendall(b"GET /v1/health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert caller.recv(65_536).startswith(b"HTTP/1.1 200")
        assert 0.2 < trickle(caller, b"GET /v1/health HTTP/1.1\r\nx: " + b"a" * 1000) < PATIENCE


@pytest.mark.usefixtures("short_limits")
@pytest.mark.attack("T03")
def test_t03_a_connection_on_which_nothing_is_said_is_cut_off(served: World) -> None:
    with connect(served) as caller:
        assert read_all(caller) == b""


@pytest.mark.usefixtures("short_limits")
@pytest.mark.attack("T03", reason="message-timeout")
def test_t03_a_body_that_does_not_come_is_given_up(served: World) -> None:
    lengths = (
        "content-length: 1000\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n",
        "content-length: 9\r\n\r\n12345678",
    )
    callers = []
    for path in (PATH_ENROL, PATH_ENROL_PROOF, PATH_ATTEST):
        for length in lengths:
            callers.append(connect(served))
            callers[-1].sendall((POST.format(path) + length).encode())
    for caller in callers:
        with caller:
            said = read_all(caller)
        assert said.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"message-timeout"' in said


@pytest.mark.usefixtures("short_limits")
@pytest.mark.attack("T03", reason="message-timeout")
def test_t03_a_body_that_trickles_is_given_up_however_steadily_it_comes(served: World) -> None:
    began, said = time.monotonic(), b""
    with connect(served) as caller:
        caller.sendall((POST.format(PATH_ATTEST) + "content-length: 100000\r\n\r\n").encode())
        caller.settimeout(0.05)
        while time.monotonic() - began < PATIENCE and not said:
            try:
                caller.sendall(b"a")
                said = caller.recv(65_536)
            except TimeoutError:
                continue
    assert b'"code":"message-timeout"' in said
    assert time.monotonic() - began < PATIENCE


UNREAD = (
    "GET /v1/health HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n",
    "GET /v1/crl HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
    "POST /v1/nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n",
    "PUT /v1/enrol HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n",
)


@pytest.mark.usefixtures("short_limits")
@pytest.mark.attack("T03")
def test_t03_a_body_that_nobody_reads_holds_no_connection(served: World) -> None:
    callers = [connect(served) for _ in UNREAD]
    for caller, head in zip(callers, UNREAD, strict=True):
        caller.sendall(head.encode())
        assert caller.recv(65_536).startswith(b"HTTP/1.1 ")
        caller.sendall(b"1\r\na\r\n")  # all is said, but for this it is not over
    for caller in callers:
        with caller:
            read_all(caller)


@pytest.mark.attack("T03")
def test_t03_a_caller_who_does_not_read_holds_no_connection(
    sqlite_url: str, journal: object, short_limits: None
) -> None:
    large = b"-" * 16 * limits.MIB
    with World(sqlite_url, anchor_pem=large).listening() as fleet:
        request = b"GET /v1/trust-anchor HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        with connect(fleet) as reader, connect(fleet, receive_buffer=4096) as caller:
            caller.sendall(request)
            reader.sendall(request)
            assert len(read_all(reader)) > len(large)
            assert is_reset(caller)
    fleet.verifier.store.close()


@pytest.mark.attack("T03")
def test_t03_thousands_of_silent_connections_delay_nobody(
    standing_fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = standing_fleet
    gate = SoftChip(fleet.now_s)
    fleet.announce(gate, "idle-gate")
    monkeypatch.setattr(limits, "MAX_HEADER_SECONDS", 5.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Both ends are files of this process.
    count = min(10_000, (hard - 1000) // 2, limits.MAX_CONNECTIONS - 100)
    silent: list[socket.socket] = []
    try:
        for _ in range(count):
            caller = socket.socket()
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", fleet.port))
            silent.append(caller)
            if len(silent) % 500 == 0:
                time.sleep(0.01)  # the backlog of a listening socket is short
        began = time.monotonic()
        nonce = fleet.enrol(gate).next.nonce
        fleet.attest(gate.attest_request(nonce))
        assert fleet.call("GET", "/v1/health")[0] == 200
        assert time.monotonic() - began < PATIENCE
        assert all_ended(silent, seconds=5.0 + 2 * PATIENCE)
    finally:
        for caller in silent:
            caller.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert fleet.call("GET", "/v1/health")[0] == 200


def all_ended(callers: list[socket.socket], *, seconds: float) -> bool:
    """Return whether the verifier ends every one of these connections in time."""
    waiting, until = list(callers), time.monotonic() + seconds
    while waiting and time.monotonic() < until:
        waiting = [caller for caller in waiting if not ended(caller)]
        time.sleep(0.2)
    return not waiting


def ended(caller: socket.socket) -> bool:
    try:
        return caller.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.mark.attack("T03", reason="server-busy")
def test_t03_one_connection_more_than_there_is_room_for_is_told_to_come_back(
    served: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(limits, "MAX_HEADER_SECONDS", 3.0)
    callers = [connect(served) for _ in range(3)]
    time.sleep(0.2)
    with connect(served) as late:
        said = read_all(late)
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 30" in head
    assert f"content-length: {len(body)}".encode() in head
    assert b'"code":"server-busy"' in body
    for caller in callers:
        caller.close()


# --- Large --------------------------------------------------------------------------------------------------------------


@pytest.mark.attack("T03", reason="message-too-large")
@pytest.mark.parametrize(
    ("path", "most"),
    [(PATH_ENROL, limits.MAX_ANONYMOUS_BODY), (PATH_ENROL_PROOF, limits.MAX_BODY), (PATH_ATTEST, limits.MAX_BODY)],
)
def test_t03_a_body_that_announces_too_much_is_refused_unread(served: World, path: str, most: int) -> None:
    for length in (str(most + 1), "9" * 12, "9" * 19):
        with connect(served) as caller:
            caller.sendall((POST.format(path) + f"content-length: {length}\r\n\r\n").encode())
            said = read_all(caller)
        assert said.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 400 ")), length
        assert b'"code":"message-too-large"' in said or length == "9" * 19


@pytest.mark.attack("T03", reason="message-too-large")
def test_t03_a_chunked_body_without_end_is_refused_at_its_bound(served: World) -> None:
    sent = 0
    with connect(served) as caller:
        caller.sendall((POST.format(PATH_ENROL) + "transfer-encoding: chunked\r\n\r\n").encode())
        try:
            while sent < 200 * limits.MAX_ANONYMOUS_BODY:
                caller.sendall(b"1000\r\n" + bytes(4096) + b"\r\n")
                sent += 4096
        except ConnectionError:
            pass
        said = read_all(caller)
    assert b'"code":"message-too-large"' in said or sent < 200 * limits.MAX_ANONYMOUS_BODY


@pytest.mark.attack("T03", reason="message-too-large")
def test_t03_a_body_of_exactly_its_bound_is_read_and_one_byte_more_is_not(served: World) -> None:
    kind = {"content-type": codec.CBOR}
    most = limits.MAX_ANONYMOUS_BODY
    assert problem_code(served.call("POST", PATH_ENROL, bytes(most), kind)) == (400, "message-malformed")
    assert problem_code(served.call("POST", PATH_ENROL, bytes(most + 1), kind)) == (413, "message-too-large")


@pytest.mark.attack("T03")
@pytest.mark.parametrize("head", [b"x: " + b"a" * 200_000, b"x: y\r\n" * 40_000, b"a" * 200_000])
def test_t03_a_head_without_end_is_cut_off(served: World, head: bytes) -> None:
    with connect(served) as caller:
        try:
            caller.sendall(b"GET /v1/health HTTP/1.1\r\n" + head)
        except ConnectionError:
            return
        assert not read_all(caller).startswith(b"HTTP/1.1 200")


@pytest.mark.attack("T03")
def test_t03_an_address_without_end_is_no_address(served: World) -> None:
    assert served.call("GET", "/v1/" + "a" * 15_000)[0] == 404
    assert served.call("GET", "/v1/devices?after=" + "a" * 15_000)[0] == 401


# --- Hostile content ----------------------------------------------------------------------------------------------------


def with_key_twice(body: bytes) -> bytes:
    """Return a CBOR map with its first pair twice."""
    fields = cbor2.loads(body)
    name, value = next(iter(fields.items()))
    return bytes([0xA0 | (len(fields) + 1)]) + cbor2.dumps(name) + cbor2.dumps(value) + body[1:]


MALFORMED: dict[str, tuple[str, bytes]] = {
    "JSON nested 100,000 deep": (codec.JSON, b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "JSON objects nested 10,000 deep": (codec.JSON, b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "JSON never closed": (codec.JSON, b"[" * 250_000),
    "JSON NaN": (codec.JSON, b'{"server":NaN}'),
    "JSON Infinity": (codec.JSON, b'{"server":-Infinity}'),
    "JSON integer of 65 bits": (codec.JSON, b'{"server":18446744073709551616}'),
    "JSON integer of 100,000 digits": (codec.JSON, b'{"server":' + b"9" * 100_000 + b"}"),
    "JSON exponent": (codec.JSON, b'{"server":1e999999}'),
    "JSON key twice": (codec.JSON, b'{"server":"localhost","server":"localhost"}'),
    "JSON lone surrogate": (codec.JSON, b'{"server":"\\ud800"}'),
    "JSON not UTF-8": (codec.JSON, b'{"server":"\xff\xfe"}'),
    "JSON too long": (codec.JSON, b'{"server":"' + b"a" * 300_000 + b'"}'),
    "CBOR nested 20,000 deep": (codec.CBOR, b"\xa1\x61a" + b"\x81" * 20_000 + b"\x00"),
    "CBOR array that claims 2^64 - 1 items": (codec.CBOR, b"\xa1\x61a\x9b" + b"\xff" * 8),
    "CBOR bytes that claim 2^63": (codec.CBOR, b"\xa1\x61a\x5b\x7f" + b"\xff" * 7),
    "CBOR text that claims 4 GiB": (codec.CBOR, b"\xa1\x61a\x7a\xff\xff\xff\xff"),
    "CBOR without end": (codec.CBOR, b"\xbf\x61a\x9f" + b"\x00" * 1000),
    "CBOR big number": (codec.CBOR, b"\xa1\x66server\xc2\x59\x10\x00" + bytes(4096)),
    "CBOR NaN": (codec.CBOR, b"\xa1\x66server\xf9\x7e\x00"),
    "CBOR shared reference to itself": (codec.CBOR, b"\xa1\x61a\xd8\x1c\x81\xd8\x1d\x00"),
    "CBOR date": (codec.CBOR, b"\xa1\x66server\xc1\x1a\xff\xff\xff\xff"),
    "CBOR regular expression": (codec.CBOR, b"\xa1\x66server\xd8\x23\x69(a+)+(b+)"),
    "CBOR decimal with an enormous exponent": (codec.CBOR, b"\xa1\x66server\xc4\x82\x1a\x7f\xff\xff\xff\x01"),
    "CBOR of 8 MiB of empty maps": (codec.CBOR, b"\xa1\x61a\x9a\x00\x7f\xff\x00" + b"\xa0" * 0x7FFF00),
    "CBOR of a million small texts": (codec.CBOR, b"\xa1\x61a\x9a\x00\x0f\x42\x40" + b"\x61a" * 1_000_000),
    "CBOR undefined": (codec.CBOR, b"\xf7"),
    "CBOR and more behind it": (codec.CBOR, b"\xa0\xa0"),
    "nothing": (codec.CBOR, b""),
}


@pytest.mark.attack("T03", reason="message-malformed")
@pytest.mark.parametrize("name", MALFORMED)
def test_t03_a_message_that_is_made_to_exhaust_is_refused_at_once(served: World, name: str) -> None:
    kind, body = MALFORMED[name]
    for path in (PATH_ENROL, PATH_ATTEST, PATH_ENROL_PROOF):
        if path == PATH_ENROL and len(body) > limits.MAX_ANONYMOUS_BODY:
            continue  # refused for its length
        began = time.monotonic()
        answer = problem_code(served.call("POST", path, body, {"content-type": kind}))
        assert answer == (400, "message-malformed")
        assert time.monotonic() - began < PATIENCE / 3


@pytest.mark.attack("T03", reason="message-malformed")
def test_t03_a_field_that_stands_twice_is_refused(served: World) -> None:
    body = codec.encode(SoftChip(served.now_s).request(), codec.CBOR)
    with refused(served, "message-malformed"):
        served.post(PATH_ENROL, with_key_twice(body), EnrolChallenge)
    assert served.post(PATH_ENROL, body, EnrolChallenge).challenges


@pytest.mark.attack("T03", reason="media-type-unsupported")
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZip", "identity, gzip", "x"])
@pytest.mark.parametrize("path", [PATH_ENROL, PATH_ENROL_PROOF, PATH_ATTEST])
def test_t03_a_compressed_body_is_refused_compressed(served: World, path: str, encoding: str) -> None:
    bomb = gzip.compress(bytes(16 * limits.MIB))
    assert len(bomb) * 900 < 16 * limits.MIB
    headers = {"content-type": codec.CBOR, "content-encoding": encoding}
    assert problem_code(served.call("POST", path, bomb, headers)) == (415, "media-type-unsupported")


@pytest.mark.attack("T03", reason="media-type-unsupported")
@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/cbor-seq", "application/x-www-form-urlencoded", "a" * 8000]
)
def test_t03_another_kind_of_body_is_refused(served: World, kind: str) -> None:
    assert problem_code(served.call("POST", PATH_ENROL, b"\xa0", {"content-type": kind})) == (
        415,
        "media-type-unsupported",
    )


# --- HTTP ---------------------------------------------------------------------------------------------------------------


@pytest.mark.attack("T03")
def test_t03_requests_in_one_piece_are_answered_one_after_the_other(served: World) -> None:
    get = b"GET /v1/keys HTTP/1.1\r\nhost: x\r\n\r\n"
    bad = (POST.format(PATH_ENROL) + "content-length: 1\r\n\r\na").encode()
    last = b"GET /v1/keys HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with connect(served) as caller:
        caller.sendall((get + bad) * 5 + last)
        said = read_all(caller)
    assert re.findall(rb"HTTP/1\.1 (\d+) ", said) == [b"200", b"400"] * 5 + [b"200"]


@pytest.mark.attack("T03")
@pytest.mark.parametrize("path", ["/v1/keys", PATH_ENROL, "/v1/nothing"])
def test_t03_a_flood_of_requests_in_one_piece_ends_the_connection(served: World, path: str) -> None:
    flood = f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode() * 50_000
    began = time.monotonic()
    with connect(served) as caller:
        with contextlib.suppress(ConnectionError):
            caller.sendall(flood)
        said = read_all(caller)
    assert said.count(b"HTTP/1.1 ") < 100
    assert time.monotonic() - began < PATIENCE


SMUGGLED: dict[str, bytes] = {
    "length and chunks": b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/keys HTTP/1.1\r\n\r\n",
    "two lengths": b"content-length: 1\r\ncontent-length: 30\r\n\r\naGET /v1/keys HTTP/1.1\r\n\r\n",
    "a negative length": b"content-length: -1\r\n\r\n",
    "a length with a sign": b"content-length: +1\r\n\r\na",
    "a length in hexadecimal": b"content-length: 0x10\r\n\r\n" + b"a" * 16,
    "an unknown transfer": b"transfer-encoding: gzip\r\n\r\nabc",
    "a chunk without a size": b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
    "a chunk of 2^64": b"transfer-encoding: chunked\r\n\r\n10000000000000000\r\n",
}


@pytest.mark.attack("T03")
@pytest.mark.parametrize("name", SMUGGLED)
def test_t03_a_body_whose_length_is_in_doubt_ends_the_connection(served: World, name: str) -> None:
    with connect(served) as caller:
        caller.sendall(POST.format(PATH_ENROL).encode() + SMUGGLED[name])
        said = read_all(caller)
    assert b"HTTP/1.1 200" not in said
    assert said.count(b"HTTP/1.1 ") <= 2


NOISE: dict[str, bytes] = {
    "TLS": bytes.fromhex("16030100f8010000f40303") + bytes(200),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "zeros": bytes(5000),
    "a proxy": b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n\r\n",
    "an odd address": b"GET http://[::1 HTTP/1.1\r\n\r\n",
    "no address": b"CONNECT localhost:22 HTTP/1.1\r\nhost: x\r\n\r\n",
    "bytes in an address": b"GET /v1/\xff\xfe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    "a header without a name": b"GET /v1/keys HTTP/1.1\r\n: x\r\n\r\n",
    "a header with a zero": b"GET /v1/keys HTTP/1.1\r\nx: a\0b\r\n\r\n",
}


@pytest.mark.attack("T03")
@pytest.mark.parametrize("name", NOISE)
def test_t03_what_is_not_http_ends_the_connection(served: World, name: str) -> None:
    with connect(served) as caller:
        caller.sendall(NOISE[name])
        assert b"HTTP/1.1 200" not in read_all(caller)


@pytest.mark.attack("T03")
@pytest.mark.parametrize("protocol", ["websocket", "h2c", "TLS/1.0"])
def test_t03_there_is_nothing_to_upgrade_to(served: World, protocol: str) -> None:
    headers = {"connection": "upgrade", "upgrade": protocol, "sec-websocket-key": "AAAA", "sec-websocket-version": "13"}
    assert served.call("GET", "/v1/keys", headers=headers)[0] == 200


def test_t03_an_honest_caller_may_take_its_time_within_the_limits(
    fleet: World, gate: SoftChip, short_limits: None
) -> None:
    body = codec.encode(gate.request(), codec.CBOR)
    head = (POST.format(PATH_ENROL) + f"content-length: {len(body)}\r\nconnection: close\r\n\r\n").encode()
    with connect(fleet) as caller:
        for part in (head[:40], head[40:], body[:100], body[100:]):
            caller.sendall(part)
            time.sleep(0.05)
        assert read_all(caller).startswith(b"HTTP/1.1 200 ")
    header = {"authorization": f"Bearer {a_token(fleet, 'devices:read')}"}
    assert fleet.call("GET", "/v1/devices", headers=header)[0] == 200
