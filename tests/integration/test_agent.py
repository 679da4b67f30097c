"""The agent with a software TPM against the whole verifier: first boot, routine, reboot, tampering, return, ban of nothing.

Every TPM command and every check of the verifier is real; only the transport is plain HTTP on loopback here. TLS has its
own tests (tests/unit/agent/test_client.py).
"""

import base64
import hashlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestd.appraisal.profile import parse_profile_yaml
from attestd.changes.inventory import inventory_document, parse_csv
from attestd.evidence.boot import boot_facts
from attestd.protocol.codec import CBOR, decode
from attestd.protocol.messages import PATH_ATTEST
from attestd.tpm.eventlog import parse_event_log
from attestd_agent import authoring, wireguard
from attestd_agent.attempt import Agent, Attempt
from attestd_agent.client import Server, read_problem
from attestd_agent.errors import Problem
from attestd_agent.lab import ima
from attestd_agent.lab.device import SoftwareDevice
from attestd_agent.lab.firmware import BootImage
from attestd_agent.lab.manufacturer import Manufacturer
from attestd_agent.machine import Memory, Outcome, TimerFired
from attestd_agent.proof import Sources
from attestd_agent.record import Record, tunnel_credential
from softchip import PCRS
from swtpm import SWTPM_MARKS, DeviceFactory
from world import PROFILE, World, sqlite_world

pytest_plugins = ("swtpm",)
pytestmark = SWTPM_MARKS

M = TypeVar("M")
EVIL = BootImage().with_command_line("root=/dev/sda1 evil=1")


class Loopback:
    """A transport to the verifier of this test, which counts what is sent."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.sent: list[tuple[str, int]] = []

    def ask(self, path: str, body: bytes, *, answer: type[M]) -> M | Problem:
        self.sent.append((path, len(body)))
        status, headers, content = self._world.call("POST", path, body, {"content-type": CBOR})
        if status == 200:
            return decode(answer, content, CBOR)
        return read_problem(status, content, retry_after=headers.get("retry-after"))

    def close(self) -> None:
        pass


class Edge:
    """A device in a fleet: a software TPM, its files, and an agent whose sleeps the test skips."""

    def __init__(self, device: SoftwareDevice, world: World) -> None:
        self.device = device
        self.world = world
        self.transport = Loopback(world)
        self.tpm = device.open_tpm()
        self.store = Record(device.state, Server("localhost", 443))
        self.lines: list[str] = []
        self.memory = Memory()
        self.agent = Agent(
            "localhost",
            self.tpm,
            self.store,
            sources=Sources(device.event_log, device.ima_list),
            transport=lambda: self.transport,
            log=lambda event, /, **fields: self.lines.append(f"{event} {fields}"),
            clock=lambda: world.now() / 1000,
        )

    def begin(self) -> Attempt:
        return self._remember(self.agent.attempt(Memory(), self.agent.begin()))

    def again(self) -> Attempt:
        return self._remember(self.agent.attempt(self.memory, TimerFired()))

    def announce(self) -> None:
        """Put this device into the inventory, by the row that the agent prints."""
        row = authoring.inventory_row(authoring.identity_of(self.tpm), name="gate-1", site="harbour", profile=PROFILE)
        entries = parse_csv(authoring.inventory_csv(row))
        self.world.change("inventory", "inventory", inventory_document(entries))

    def golden(self, **more: Any) -> None:
        """Activate a profile that requires what this device booted, and more."""
        registers = dict(self.device.lab_tpm().read_pcrs("sha256", PCRS))
        log = parse_event_log(self.device.event_log.read_bytes())
        facts = boot_facts(log, log_digest=bytes(32), bank="sha256", pcrs=registers)
        found: dict[str, Any] = {}
        for component in facts.components:
            accept = found.setdefault(component.claim, {"check": "required", "accept": []})["accept"]
            rule = {"digest": f"sha256:{component.digest.hex()}"}
            if rule not in accept:
                accept.append(rule)
        document = {"profile": PROFILE, "version": 1, "interval": 60, "deadline": 300, "claims": found, **more}
        profile = parse_profile_yaml(yaml.safe_dump(document))
        self.world.change("profile-activate", profile.name, profile.document)

    def _remember(self, attempt: Attempt) -> Attempt:
        self.memory = attempt.memory
        return attempt


@pytest.fixture
def world(tmp_path: Path, manufacturer: Manufacturer) -> Iterator[World]:
    anchors = tuple(x509.load_pem_x509_certificates(manufacturer.anchors))
    with sqlite_world(tmp_path, anchors=tuple(one.public_bytes(Encoding.DER) for one in anchors)) as made:
        yield made


@pytest.fixture
def edge(world: World, swtpm_device: DeviceFactory) -> Edge:
    """A device that is announced and has booted what its profile says."""
    made = Edge(swtpm_device(), world)
    made.announce()
    made.golden()
    return made


@pytest.fixture
def enrolled(edge: Edge) -> Edge:
    assert edge.begin().report.outcome is Outcome.TRUSTED
    edge.transport.sent.clear()
    return edge


def test_announced_device_enrols_by_itself_at_first_boot(edge: Edge) -> None:
    attempt = edge.begin()
    assert (attempt.report.outcome, attempt.report.code) == (Outcome.TRUSTED, "trusted")
    enrolment = edge.store.load()
    assert enrolment is not None
    assert "BEGIN CERTIFICATE" in enrolment.certificate_chain


def test_tunnel_configuration_is_complete_and_its_key_is_the_one_that_was_proved(enrolled: Edge) -> None:
    enrolment = enrolled.store.load()
    assert enrolment is not None
    credential = tunnel_credential(enrolment)
    text = wireguard.configuration(enrolled.tpm, enrolment.device.keys.tunnel, credential)
    private = re.search("PrivateKey = (.*)", text)
    assert private
    public = subprocess.run(["wg", "pubkey"], input=private[1], capture_output=True, text=True, check=True).stdout
    assert base64.b64decode(public) == credential.public_key
    assert wireguard.public_configuration(credential) == credential.config
    assert text.replace(private[0] + "\n", "") == credential.config


def test_routine_proof_is_one_small_message(enrolled: Edge) -> None:
    for _ in range(3):
        assert enrolled.again().report.outcome is Outcome.TRUSTED
    assert [path for path, _ in enrolled.transport.sent] == [PATH_ATTEST] * 3
    assert max(size for _, size in enrolled.transport.sent) <= 600


def test_reboot_is_announced_and_trust_goes_on(enrolled: Edge) -> None:
    enrolled.device.boot()
    assert enrolled.again().report.outcome is Outcome.TRUSTED
    assert enrolled.again().report.outcome is Outcome.TRUSTED
    assert len(enrolled.transport.sent) == 2


def test_agent_that_starts_again_continues(enrolled: Edge, world: World) -> None:
    other = Edge(enrolled.device, world)
    assert other.begin().report.outcome is Outcome.TRUSTED
    assert [path for path, _ in other.transport.sent] == [PATH_ATTEST]


def test_tampered_boot_is_refused_with_what_changed_and_forgotten(enrolled: Edge) -> None:
    enrolled.device.boot(EVIL)
    attempt = enrolled.again()
    assert (attempt.report.outcome, attempt.report.code) == (Outcome.REFUSED, "evidence-refused")
    assert "kernel-command-line" in {finding.claim for finding in attempt.report.findings}
    assert enrolled.store.load() is None


def test_p05_repaired_device_comes_back_with_new_keys(enrolled: Edge) -> None:
    before = enrolled.store.load()
    enrolled.device.boot(EVIL)
    enrolled.again()
    assert enrolled.again().report.outcome is Outcome.REFUSED
    enrolled.device.boot(BootImage())
    assert enrolled.again().report.outcome is Outcome.TRUSTED
    after = enrolled.store.load()
    assert before is not None
    assert after is not None
    assert after.device.device_id == before.device.device_id
    assert after.device.keys.device != before.device.keys.device
    assert after.device.keys.tunnel.public != before.device.keys.tunnel.public


def test_silent_device_enrols_again(enrolled: Edge, world: World) -> None:
    world.pass_time(3600)
    attempt = enrolled.again()
    assert attempt.forgotten
    assert enrolled.again().report.outcome is Outcome.TRUSTED


def test_unannounced_device_waits_for_a_person_and_then_enrols(world: World, swtpm_device: DeviceFactory) -> None:
    edge = Edge(swtpm_device(), world)
    edge.golden()
    attempt = edge.begin()
    assert attempt.report.outcome is Outcome.WAITING
    assert 50 <= attempt.seconds <= 70
    edge.announce()
    assert edge.again().report.outcome is Outcome.TRUSTED


def test_runtime_list_is_appraised_entry_by_entry_as_it_grows(world: World, swtpm_device: DeviceFactory) -> None:
    edge = Edge(swtpm_device(), world)
    edge.announce()
    good = {f"/usr/bin/tool{number}": b"%d" % number for number in range(6)}
    aggregate = ima.boot_aggregate(
        tuple(value for _, value in edge.device.lab_tpm().read_pcrs("sha256", tuple(range(10))))
    )
    allow = {path: [f"sha256:{hashlib.sha256(content).hexdigest()}"] for path, content in good.items()}
    allow["boot_aggregate"] = [f"sha256:{aggregate.digest.hex()}"]
    edge.golden(runtime={"check": "required", "allow": allow})
    files = [ima.measured_file(path, content) for path, content in good.items()]
    edge.device.measure(*files[:2])
    assert edge.begin().report.outcome is Outcome.TRUSTED
    for file in files[2:4]:
        edge.device.measure(file)
        assert edge.again().report.outcome is Outcome.TRUSTED
    assert edge.again().report.outcome is Outcome.TRUSTED, "nothing new was measured"
    world.verifier.boots._items.clear()
    assert edge.again().report.outcome is Outcome.TRUSTED, "and the verifier started again meanwhile"
    edge.device.measure(ima.measured_file("/usr/bin/tool0", b"not tool0"))
    attempt = edge.again()
    assert attempt.report.outcome is Outcome.REFUSED
    assert {finding.component for finding in attempt.report.findings} == {"/usr/bin/tool0"}
