"""What a caller costs who has proved nothing: little computation, and no write.

The verifier is a process of its own; its processor time is read before and after. The measure is not a clock but V, one
ECDSA P-256 verification on this machine at this moment, so that a slow machine does not fail the test.
"""

import base64
import hashlib
import http.client
import json
import os
import secrets
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

import cert_forge
from attestd.protocol import codec, limits
from attestd.protocol.messages import (
    PATH_ATTEST,
    PATH_ENROL,
    PATH_ENROL_PROOF,
    Activation,
    EnrolChallenge,
    EnrolProof,
    SignedAttest,
)
from attestd.store.tables import Base
from attestd_pki import der
from softchip import UNKNOWN_MAKER, SoftChip

pytest_plugins = ("attacks.fixtures_pct",)

MOST_V = 80
"""Verifications that a stranger's request may cost: 2 ms where one takes 50 µs, and as much again for a machine whose caches
others use at the same time."""
MOST_CHAIN_V = 150
"""The same for a chain of eight certificates that are all read, and of which seven could have signed the first."""
TIMES = 40
CBOR = {"content-type": codec.CBOR}


@dataclass(frozen=True)
class Served:
    """A verifier in another process."""

    process: psutil.Process
    port: int
    device_id: str
    database: Path

    def cpu(self) -> float:
        """Seconds of processor time that it has used."""
        used = self.process.cpu_times()
        return float(used.user + used.system)


@pytest.fixture(scope="module")
def served(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    place = tmp_path_factory.mktemp("anonymous")
    database = place / "attestd.db"
    database.write_bytes(migrated_sqlite.read_bytes())
    tests = Path(__file__).parents[1]
    with (place / "log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("verifier_process.py")), str(database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(tests)},
        )
        try:
            assert child.stdout is not None
            said = json.loads(child.stdout.readline())
            yield Served(psutil.Process(child.pid), said["port"], said["device_id"], database)
        finally:
            child.communicate(timeout=30)


def one_verification() -> float:
    """Return V: seconds of processor time of one ECDSA P-256 verification, the median of several runs."""
    key = ec.generate_private_key(ec.SECP256R1())
    signature, public = key.sign(b"message", ec.ECDSA(hashes.SHA256())), key.public_key()

    def run() -> float:
        began = time.process_time()
        for _ in range(50):
            public.verify(signature, b"message", ec.ECDSA(hashes.SHA256()))
        return (time.process_time() - began) / 50

    return statistics.median(run() for _ in range(7))


Request = tuple[str, str, bytes | None]


def ask(served: Served, requests: list[Request]) -> list[tuple[int, str]]:
    """Send the requests on one connection and return (status, reason code) of each answer."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    answers = []
    try:
        for method, path, body in requests:
            connection.request(method, path, body, CBOR if body is not None else {})
            answer = connection.getresponse()
            content = answer.read()
            problem = answer.getheader("content-type") == codec.PROBLEM_JSON
            answers.append((answer.status, json.loads(content)["code"] if problem else ""))
    finally:
        connection.close()
    return answers


def costs(served: Served, make: Callable[[], Request], times: int = TIMES) -> tuple[float, set[tuple[int, str]]]:
    """Return (V that one request costs on the average, the answers)."""
    requests = [make() for _ in range(times)]
    ask(served, requests[:2])
    before = served.cpu()
    answers = ask(served, requests[2:])
    used = served.cpu() - before
    return used / (times - 2) / one_verification(), set(answers)


# --- What strangers send --------------------------------------------------------------------------------------------------


def get(path: str) -> Callable[[], Request]:
    return lambda: ("GET", path, None)


def noise(path: str, size: int = 300) -> Callable[[], Request]:
    return lambda: ("POST", path, secrets.token_bytes(size))


def enrolment(make: Callable[[], SoftChip], **fields: Any) -> Callable[[], Request]:
    return lambda: ("POST", PATH_ENROL, codec.encode(make().request(**fields), codec.CBOR))


def fresh(**fields: Any) -> SoftChip:
    return SoftChip(int(time.time()), **fields)


def huge_rsa(bits: int, exponent: int = 65537) -> rsa.RSAPublicKey:
    """Return a public key of this size to which nobody has the private one."""
    modulus = (1 << bits - 1) | int.from_bytes(hashlib.shake_256(b"%d" % bits).digest(bits // 8 - 8)) | 1
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def signed_by_rsa(certificate: bytes, bits: int) -> bytes:
    """Return the certificate as if an RSA key of this size had signed it; the signature is noise."""
    oids = bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("06092a864886f70d01010b0500")
    tbs = x509.load_der_x509_certificate(certificate).tbs_certificate_bytes
    inner = der.encode(0x30, oids[0])
    assert tbs.count(inner) == 1
    outer = der.encode(0x30, oids[1])
    body = read_sequence(tbs).replace(inner, outer)
    signature = secrets.token_bytes(bits // 8)
    return der.encode(0x30, der.encode(0x30, body) + outer + der.encode(0x03, b"\0" + signature))


def read_sequence(data: bytes) -> bytes:
    """Return the content of a DER sequence with a length of one to three bytes."""
    size = data[1]
    return data[2:] if size < 0x80 else data[2 + (size & 0x7F) :]


def hostile_chain(bits: int, exponent: int = 65537, *, alike: bool = False) -> Callable[[], tuple[bytes, ...]]:
    """Return a maker of endorsement key certificates under seven authorities with RSA keys of this size."""
    authority = huge_rsa(bits, exponent)

    def make(chip: SoftChip | None = None) -> tuple[bytes, ...]:
        chain = []
        for level in range(7):
            own, above = ("CA", "CA") if alike else (f"CA {level}", f"CA {level + 1}")
            builder = (
                x509.CertificateBuilder()
                .subject_name(cert_forge.name(own))
                .issuer_name(cert_forge.name(above))
                .public_key(authority)
                .serial_number(x509.random_serial_number())
                .not_valid_before(INSTANT[0])
                .not_valid_after(INSTANT[1])
            )
            for extension, critical in cert_forge.CA:
                builder = builder.add_extension(extension, critical=critical)
            made = builder.sign(cert_forge.ec_key(5), hashes.SHA256()).public_bytes(Encoding.DER)
            chain.append(signed_by_rsa(made, bits))
        return tuple(chain)

    return make


INSTANT = tuple(
    x509.load_der_x509_certificate(UNKNOWN_MAKER.anchor).not_valid_before_utc.replace(year=year)
    for year in (2020, 2040)
)


def under(chain: Callable[[], tuple[bytes, ...]], bits: int, *, alike: bool = False) -> Callable[[], Request]:
    """Return a maker of enrolments whose leaf claims to be issued by the first authority of a hostile chain."""
    above = chain()

    def make() -> Request:
        chip = fresh()
        plan = replace(UNKNOWN_MAKER.root, subject="CA" if alike else "CA 0")
        leaf = replace(cert_forge.LEAF, key=chip.ek, not_before=1_600_000_000, not_after=2_200_000_000)
        made = signed_by_rsa(cert_forge.make(leaf, plan).der, bits)
        return ("POST", PATH_ENROL, codec.encode(chip.request(ek_certificates=(made, *above)), codec.CBOR))

    return make


def wrong_activation(served: Served) -> Callable[[], Request]:
    """Return a maker of second messages over real challenges, with guessed secrets and a large log."""
    chip = fresh()
    body = codec.encode(chip.request(), codec.CBOR)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.request("POST", PATH_ENROL, body, CBOR)
    challenge = codec.decode(EnrolChallenge, connection.getresponse().read(), codec.CBOR)
    connection.close()
    (one,) = challenge.challenges
    signed = SignedAttest(b"attest", b"signature")

    def make() -> Request:
        guess = (Activation(one.challenger, one.nonce, secrets.token_bytes(32)),)
        proof = EnrolProof(body, guess, signed, signed, chip.values(), chip.event_log)
        return ("POST", PATH_ENROL_PROOF, codec.encode(proof, codec.CBOR))

    return make


def stolen_id(served: Served) -> Callable[[], Request]:
    """Return a maker of routine proofs for a device that exists, over a nonce that the verifier hands to anybody."""
    chip = fresh()
    wish = replace(chip.attest_request(bytes(40)), device_id=served.device_id)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.request("POST", PATH_ATTEST, codec.encode(wish, codec.CBOR), CBOR)
    told = json.loads(connection.getresponse().read())
    connection.close()
    nonce = base64.urlsafe_b64decode(told["nonce"] + "==")

    def make() -> Request:
        forged = replace(chip.attest_request(nonce), device_id=served.device_id)
        return ("POST", PATH_ATTEST, codec.encode(forged, codec.CBOR))

    return make


STRANGERS: dict[str, tuple[Callable[[Served], Callable[[], Request]], set[tuple[int, str]]]] = {
    "health": (lambda _: get("/v1/health"), {(200, "")}),
    "keys": (lambda _: get("/v1/keys"), {(200, "")}),
    "description": (lambda _: get("/v1/openapi.json"), {(200, "")}),
    "revocation list": (lambda _: get("/v1/crl"), {(200, "")}),
    "anchor": (lambda _: get("/v1/trust-anchor"), {(200, "")}),
    "nothing there": (lambda _: get("/v1/nothing"), {(404, "not-found")}),
    "trust without a token": (lambda s: get(f"/v1/devices/{s.device_id}/trust"), {(401, "token-missing")}),
    "devices without a token": (lambda _: get("/v1/devices"), {(401, "token-missing")}),
    "noise to enrol": (lambda _: noise(PATH_ENROL), {(400, "message-malformed")}),
    "noise to prove": (lambda _: noise(PATH_ENROL_PROOF), {(400, "message-malformed")}),
    "noise to attest": (lambda _: noise(PATH_ATTEST), {(400, "message-malformed")}),
    "32 KiB of noise": (lambda _: noise(PATH_ENROL, limits.MAX_ANONYMOUS_BODY), {(400, "message-malformed")}),
    "a genuine TPM": (lambda _: enrolment(fresh), {(200, "")}),
    "a TPM of an unknown maker": (
        lambda _: enrolment(lambda: fresh(maker=UNKNOWN_MAKER)),
        {(403, "ek-chain-untrusted")},
    ),
    "a TPM without a certificate": (
        lambda _: enrolment(fresh, ek_certificates=()),
        {(403, "ek-certificate-missing")},
    ),
    "another TPM's certificate": (
        lambda _: enrolment(fresh, ek_certificates=fresh().certificates),
        {(403, "ek-certificate-mismatch")},
    ),
    "seven authorities of RSA 4096": (
        lambda _: under(hostile_chain(4096), 4096),
        {(403, "ek-chain-untrusted")},
    ),
    "authorities of RSA 4096 that all have one name": (
        lambda _: under(hostile_chain(4096, alike=True), 4096, alike=True),
        {(403, "ek-chain-untrusted")},
    ),
    "authorities of RSA 8192": (
        lambda _: under(hostile_chain(8192), 8192),
        {(403, "ek-certificate-weak"), (403, "ek-chain-untrusted")},
    ),
    "authorities with an enormous exponent": (
        lambda _: under(hostile_chain(4096, (1 << 4000) + 1, alike=True), 4096, alike=True),
        {(403, "ek-certificate-weak"), (403, "ek-chain-untrusted"), (400, "ek-certificate-malformed")},
    ),
    "a guessed activation secret": (wrong_activation, {(403, "activation-failed")}),
    "a forged proof of a device that exists": (stolen_id, {(403, "quote-signature"), (403, "quote-binding")}),
}


def written(connection: sqlite3.Connection) -> tuple[int, ...]:
    """Return what changes when another process writes: SQLite's counter, and the number of rows of every table."""
    counted = [
        connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in sorted(Base.metadata.tables)
    ]
    return (connection.execute("PRAGMA data_version").fetchone()[0], *counted)


@pytest.mark.attack("T04")
@pytest.mark.parametrize("stranger", STRANGERS)
def test_t04_a_stranger_costs_little_and_writes_nothing(served: Served, stranger: str) -> None:
    prepare, expected = STRANGERS[stranger]
    make = prepare(served)
    with sqlite3.connect(f"file:{served.database}?mode=ro", uri=True) as database:
        before = written(database)
        cost, answers = costs(served, make)
        assert answers <= expected
        assert written(database) == before
    database.close()
    most = MOST_CHAIN_V if stranger.startswith(("seven authorities", "authorities")) else MOST_V
    assert cost < most, f"{cost:.1f} V"


def test_t04_a_device_that_proves_itself_does_write(served: Served) -> None:
    with sqlite3.connect(f"file:{served.database}?mode=ro", uri=True) as database:
        before = written(database)
        chip = fresh()
        body = codec.encode(chip.request(), codec.CBOR)
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
        connection.request("POST", PATH_ENROL, body, CBOR)
        challenge = codec.decode(EnrolChallenge, connection.getresponse().read(), codec.CBOR)
        connection.request("POST", PATH_ENROL_PROOF, codec.encode(chip.proof(body, challenge), codec.CBOR), CBOR)
        assert json.loads(connection.getresponse().read())["code"] == "device-unannounced"
        connection.close()
        assert written(database) != before
    database.close()


def test_t04_the_measure_tells_a_costly_request_from_a_cheap_one(served: Served) -> None:
    cheap, _ = costs(served, get("/v1/trust-anchor"))
    costly, _ = costs(served, noise(PATH_ATTEST, limits.MAX_BODY), times=8)
    assert costly > 5 * cheap


@pytest.mark.attack("T04")
def test_t04_a_large_body_costs_no_more_than_reading_it(served: Served) -> None:
    """A mebibyte costs its reading and copying: about 2 ms, whatever is in it."""
    body = b"\xa1\x61a\x5a\x00\x7f\xff\xf0" + bytes(0x7FFFF0)
    assert len(body) <= limits.MAX_BODY
    cost, answers = costs(served, lambda: ("POST", PATH_ATTEST, body), times=8)
    assert answers == {(400, "message-malformed")}
    assert cost / 8 < MOST_V
