"""docs/protocol.md is complete: a client that was written from it alone enrols at a real verifier and keeps its trust."""

import ast
import hashlib
import secrets
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from attestd.cli.demo.stage import HOST, Machine, Stage
from attestd_agent.lab.firmware import BootImage
from independent.plain_client import PlainClient, Problem, Verifier
from independent.plain_tpm import PlainTpm
from swtpm import SWTPM_MARKS

pytestmark = SWTPM_MARKS


@dataclass
class Fleet:
    """A verifier that serves over TLS, and one machine that it expects."""

    stage: Stage
    machine: Machine

    @contextmanager
    def client(self, media_type: str = "application/cbor") -> Iterator[PlainClient]:
        """Give a client on the machine that is not enrolled yet."""
        anchor = hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.stage.anchor.read_text())).digest()
        verifier = Verifier(HOST, self.stage.port, anchor, media_type)
        seed = secrets.token_bytes(32)
        log = self.machine.device.event_log.read_bytes()
        client = PlainClient(PlainTpm(self._socket, device_key_seed=seed), verifier, boot_log=log)
        client.seed = seed
        try:
            yield client
        finally:
            client.tpm.close()

    def reboot(self, client: PlainClient) -> None:
        """Boot the machine anew under a client that goes on with what it has on its disk."""
        client.tpm.close()
        self.machine.device.boot()
        client.tpm = PlainTpm(self._socket, device_key_seed=client.seed)

    @property
    def _socket(self) -> str:
        return self.machine.device.tcti.removeprefix("swtpm:path=")


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Stage.at(None) as stage:
        maker = stage.manufacturer("Good Chips")
        stage.operate("init", "--name", HOST, "--port", str(stage.port))
        (stage.verifier / "anchors" / "maker.pem").write_bytes(maker.anchors)
        stage.start_verifier()
        machine = stage.identified(stage.machine("edge-1", maker, BootImage()))
        stage.agent(machine, "quote", "--output", stage.place / "evidence")
        stage.learn(stage.place / "evidence", stage.place / "edge.yaml")
        stage.operate("profile", "add", stage.place / "edge.yaml", "--activate")
        row = f"{machine.identity['ek_public_sha256']},edge-1,north,edge"
        (stage.place / "fleet.csv").write_text(f"ek_public_sha256,name,site,profile\n{row}\n")
        stage.operate("inventory", "import", stage.place / "fleet.csv")
        yield Fleet(stage, machine)


@pytest.mark.parametrize("file", ["plain_client.py", "plain_tpm.py"])
def test_the_client_imports_nothing_of_this_project(file: str) -> None:
    tree = ast.parse(Path(__file__).with_name(file).read_text())
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}

    assert not any(module.startswith("attestd") for module in modules)


@pytest.mark.parametrize("media_type", ["application/cbor", "application/json"])
def test_a_client_written_from_the_document_enrols_and_proves_itself_again(fleet: Fleet, media_type: str) -> None:
    with fleet.client(media_type) as client:
        enrolled = client.enrol()
        attested = client.attest()

    assert (enrolled["device_id"], enrolled["state"], attested["state"]) == (client.device_id, "trusted", "trusted")
    assert len(enrolled["certificate_chain"]) == 2


def test_a_routine_proof_of_that_client_is_under_a_kilobyte(fleet: Fleet) -> None:
    with fleet.client() as client:
        client.enrol()
        client.attest()

    assert client.verifier.sent < 1024


def test_a_reboot_that_the_client_does_not_announce_is_refused_and_can_be_repeated_at_once(fleet: Fleet) -> None:
    with fleet.client() as client:
        client.enrol()
        fleet.reboot(client)

        with pytest.raises(Problem) as refused:
            client.attest()
        attested = client.repeat(refused.value, **client.everything())

    assert refused.value.document["code"] == "tpm-reset-unannounced"
    assert (attested["state"], "rebooted" in attested["changed"]) == ("trusted", True)


def test_a_message_with_a_key_that_the_document_does_not_name_is_refused(fleet: Fleet) -> None:
    with fleet.client() as client:
        client.enrol()

        with pytest.raises(Problem) as refused:
            client.attest(wish="more time")

    assert refused.value.document["code"] == "message-malformed"
