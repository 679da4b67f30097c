"""A whole verifier for tests: the real application behind real HTTP on loopback, with a clock and operators of the test's own.

Nothing is replaced but time: store, ledger of changes, issuer, appraisal and transport are what a user runs. TLS is left to
the tests of the agent and of the command line.
"""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import uvicorn
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from attestd import clock
from attestd.api.application import tls13, transport
from attestd.appraisal.ear import EarKey, VerifierId
from attestd.appraisal.profile import parse_profile_yaml
from attestd.changes.inventory import InventoryEntry, inventory_document
from attestd.changes.operators import parse_operators, sign_change
from attestd.changes.statement import Change
from attestd.evidence.boot import boot_facts
from attestd.evidence.challenge import Challenger
from attestd.evidence.ek import EkPolicy
from attestd.evidence.quote import Selection
from attestd.issuance.mint import Names
from attestd.issuance.wireguard import Gateway
from attestd.protocol import codec
from attestd.protocol.messages import (
    PATH_ATTEST,
    PATH_ENROL,
    PATH_ENROL_PROOF,
    Attested,
    AttestRequest,
    EnrolChallenge,
    Enrolled,
    EnrolProof,
    EnrolRequest,
)
from attestd.services import memory
from attestd.services.context import Timing, Tunnel, Verifier
from attestd.services.policy import PolicySource
from attestd.store import changes
from attestd.store.addresses import AddressPool
from attestd.store.engine import Store
from attestd.tpm.eventlog import parse_event_log
from attestd_pki.certificate import parse_certificate
from attestd_pki.chain import TrustStore
from pki_world import CRL_URL, SUFFIX, TRUST_DOMAIN, an_issuer
from softchip import GOOD_MAKER, PCRS, SoftChip

PROFILE = "edge"
GATEWAY = Gateway("xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", "vpn.fleet.example:51820", ("100.64.0.0/10",))


def golden_profile(chip: SoftChip, *, version: int = 1, interval: int = 60, deadline: int = 300) -> str:
    """Return a profile (YAML) in which every component of the chip's boot is required, by its digest."""
    registers = {index: value for index, value in chip.registers.items() if index in PCRS}
    facts = boot_facts(parse_event_log(chip.event_log), log_digest=bytes(32), bank="sha256", pcrs=registers)
    claims: dict[str, Any] = {}
    for component in facts.components:
        accept = claims.setdefault(component.claim, {"check": "required", "accept": []})["accept"]
        rule = {"digest": f"sha256:{component.digest.hex()}"}
        if rule not in accept:
            accept.append(rule)
    document = {"profile": PROFILE, "version": version, "interval": interval, "deadline": deadline, "claims": claims}
    return str(yaml.safe_dump(document))


class Problem(Exception):
    """The verifier answered with a problem document."""

    def __init__(self, status: int, document: dict[str, Any], headers: dict[str, str]) -> None:
        super().__init__(f"{status} {document.get('code')}")
        self.status = status
        self.document = document
        self.headers = headers

    @property
    def code(self) -> str:
        """The stable reason code."""
        return str(self.document["code"])


@dataclass
class Operator:
    """One operator with a key of her own."""

    name: str
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def pem(self) -> bytes:
        """The private key in OpenSSH's format."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())

    @property
    def line(self) -> str:
        """Her line in allowed_signers."""
        public = self.key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        return f'{self.name} namespaces="attestd-change" {public}'


class World:
    """A verifier that listens, and whoever runs it."""

    def __init__(self, url: str, *, threshold: int = 1, anchors: tuple[bytes, ...] = (), **changed: Any) -> None:
        self.offset_ms = 0
        self.operators = [Operator("alice"), Operator("bob")]
        operators = parse_operators("\n".join(one.line for one in self.operators), threshold=threshold)
        store = Store.open(url)
        store.migrate()
        fields: dict[str, Any] = {
            "store": store,
            "challenger": Challenger("attestd", clock.random_bytes(32)),
            "ek_policy": EkPolicy(TrustStore.of([parse_certificate(der) for der in (GOOD_MAKER.anchor, *anchors)])),
            "pinned_ek_allowed": False,
            "policy": PolicySource(operators, fleet=TRUST_DOMAIN, now=self.now),
            "selection": Selection("sha256", PCRS),
            "server_names": frozenset({"localhost", "127.0.0.1"}),
            "issuer": an_issuer(),
            "names": Names(TRUST_DOMAIN, SUFFIX),
            "crl_url": CRL_URL,
            "result_key": EarKey(Ed25519PrivateKey.generate()),
            "identity": VerifierId(f"spiffe://{TRUST_DOMAIN}", "attestd", "test"),
            "tunnel": Tunnel(
                GATEWAY, AddressPool(IPv4Network("100.64.0.0/10"), IPv6Network("fd00:a77e:57d0::/64")), 1000
            ),
            "timing": Timing(pending_retry=60, certificate=6 * 3600, crl=3600),
            "anchor_pem": b"-----BEGIN CERTIFICATE-----\n",
            "identities": memory.identity_memory(),
            "keys": memory.key_memory(),
            "boots": memory.boot_memory(),
            "refusals": memory.refusal_memory(),
            "now": self.now,
            "random": clock.random_bytes,
        }
        self.verifier = Verifier(**{**fields, **changed})
        self.port = 0

    # --- Time -----------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """The verifier's time in milliseconds: real time, and what the test let pass."""
        return clock.now_ms() + self.offset_ms

    @property
    def now_s(self) -> int:
        """The same in seconds."""
        return self.now() // 1000

    def pass_time(self, seconds: float) -> None:
        """Let time pass for the verifier."""
        self.offset_ms += int(seconds * 1000)

    # --- Operators ------------------------------------------------------------------------------------------------

    def change(self, kind: Any, subject: str, body: bytes, *, signers: int = 1) -> Change:
        """Propose, sign and apply one change."""
        with self.verifier.store.write() as connection:
            book = self.verifier.policy.book(connection)
            made = Change(book.sequence + 1, kind, subject, body, book.digest, "alice", self.now())
            signatures = tuple(sign_change(made, one.pem) for one in self.operators[:signers])
            row = {name: getattr(made, name) for name in made.__slots__}
            changes.insert_proposal(connection, changes.ChangeRecord(**row, signatures=signatures))
            changes.apply_change(connection, made.sequence, now=self.now())
        return made

    def announce(self, chip: SoftChip, name: str = "gate-1", *, profile: str = PROFILE, site: str = "harbour") -> None:
        """Put a device into the inventory."""
        self.change("inventory", "inventory", inventory_document([InventoryEntry(chip.device_id, name, site, profile)]))

    def withdraw(self, chip: SoftChip) -> None:
        """Take a device out of the inventory."""
        self.change("inventory", "inventory", inventory_document((), [chip.device_id]))

    def activate(self, yaml: str) -> None:
        """Activate a profile."""
        profile = parse_profile_yaml(yaml)
        self.change("profile-activate", profile.name, profile.document)

    def golden(self, chip: SoftChip, *, version: int = 1, interval: int = 60, deadline: int = 300) -> None:
        """Activate a profile that says: boot exactly as this chip has booted."""
        self.activate(golden_profile(chip, version=version, interval=interval, deadline=deadline))

    # --- The wire -------------------------------------------------------------------------------------------------

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one HTTP request and return (status, headers in lower case, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def post(self, path: str, message: Any, answer: type[Any], *, media_type: str = codec.CBOR) -> Any:
        """Send a message (or raw bytes) and return the answer. Raises `Problem`."""
        body = message if isinstance(message, bytes) else codec.encode(message, media_type)
        status, headers, raw = self.call("POST", path, body, {"content-type": media_type})
        if status != 200:
            assert headers["content-type"] == codec.PROBLEM_JSON
            raise Problem(status, json.loads(raw), headers)
        return codec.decode(answer, raw, media_type)

    def begin(self, request: EnrolRequest | bytes) -> EnrolChallenge:
        """Send the first message."""
        answer: EnrolChallenge = self.post(PATH_ENROL, request, EnrolChallenge)
        return answer

    def prove(self, proof: EnrolProof) -> Enrolled:
        """Send the second message."""
        answer: Enrolled = self.post(PATH_ENROL_PROOF, proof, Enrolled)
        return answer

    def enrol(self, chip: SoftChip, **changed: Any) -> Enrolled:
        """Enrol a device; `changed` replaces fields of its proof."""
        body = codec.encode(chip.request(), codec.CBOR)
        return self.prove(chip.proof(body, self.begin(body), **changed))

    def attest(self, request: AttestRequest) -> Attested:
        """Send the proof of a known device."""
        answer: Attested = self.post(PATH_ATTEST, request, Attested)
        return answer

    def trust(self, device_id: str, token: str) -> dict[str, Any]:
        """Ask as a relying party."""
        _, _, raw = self.call("GET", f"/v1/devices/{device_id}/trust", headers={"authorization": f"Bearer {token}"})
        document: dict[str, Any] = json.loads(raw)
        return document

    # --- Running --------------------------------------------------------------------------------------------------

    @contextmanager
    def listening(self, *, tls: tuple[Path, Path] | None = None) -> Iterator["World"]:
        """Serve on a free loopback port until the block ends, over TLS where (certificate, key) are given."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            secure = {"ssl_certfile": tls[0], "ssl_keyfile": tls[1], "ssl_context_factory": tls13} if tls else {}
            settings = transport(self.verifier, **secure)
            server = uvicorn.Server(settings)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                time.sleep(0.005)
            try:
                yield self
            finally:
                server.should_exit = True
                thread.join(timeout=15)


@contextmanager
def sqlite_world(directory: Path, **fields: Any) -> Iterator[World]:
    """Serve a verifier on a SQLite file in `directory`."""
    with World(f"sqlite:///{directory}/attestd.db", **fields).listening() as world:
        yield world
