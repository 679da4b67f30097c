"""The measured process: a verifier, its fleet, and nothing else while a measurement runs."""

import datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import machines
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from attestd.api.application import settle
from world import World


def verifier(pipe: Connection, url: str, devices: int, tls: tuple[Path, Path] | None) -> None:
    """Serve until the process is ended.

    Sends (port, port over TLS or None), then answers each ("routine" | "logs" | "fresh-logs", rounds) with request bodies.
    """
    world = World(url)
    with world.listening():
        chips, nonces = machines.enrolled(world, devices)
        plain = world.port
        with world.listening(tls=tls):
            settle()
            pipe.send((plain, world.port))
            while True:
                kind, rounds = pipe.recv()
                pipe.send(machines.bodies(_requests(kind, chips, nonces, rounds)))


def _requests(kind: str, chips: Any, nonces: Any, rounds: int) -> list[Any]:
    if kind == "routine":
        return machines.routine(chips, nonces, rounds)
    made = machines.with_log(chips, nonces, rounds)
    return machines.varied_logs(made) if kind == "fresh-logs" else made


def certificate(directory: Path) -> tuple[Path, Path]:
    """Write a self-signed server certificate for localhost and return (certificate, key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, secret = directory / "server.pem", directory / "server.key"
    pem.write_bytes(made.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return pem, secret
