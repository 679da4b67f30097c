"""What relying parties rely on, through the command line: revocation lists and attestation results."""

import json
import subprocess
from pathlib import Path

import pytest

from attestd.errors import Refused
from attestd_agent.lab.firmware import BootImage
from fleet import Fleet
from softchip import SoftChip

pytest_plugins = ("fleet",)


def openssl(*arguments: str | Path, given: bytes = b"") -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], input=given, capture_output=True, check=True)
    return done.stdout.decode()


def token(fleet: Fleet, chip: SoftChip) -> Path:
    """Write the device's attestation result, as a relying party gets it."""
    result = fleet.trust(chip).result
    assert result
    path = fleet.place / "result.jwt"
    path.write_text(result)
    return path


def test_exported_list_verifies_with_openssl_and_names_the_certificate(fleet: Fleet) -> None:
    fleet.trusted()
    serial = fleet.done("device", "ban", "edge-1", "--reason", "test")["certificates_revoked"][0]
    path = fleet.place / "list.pem"
    fleet.done("crl", "export", "--pem", "-o", path)
    text = openssl("crl", "-in", path, "-noout", "-text", "-CAfile", fleet.place / "issuer/authority.pem")
    assert serial.upper() in text


def test_refresh_publishes_a_list_with_the_next_number(fleet: Fleet) -> None:
    first = fleet.done("crl", "show")["number"]
    assert fleet.done("crl", "show")["number"] == first
    assert fleet.done("crl", "refresh")["number"] == first + 1


def test_result_of_a_trusted_device_is_affirming(fleet: Fleet) -> None:
    chip = fleet.trusted()
    verified = fleet.done("ear", "verify", token(fleet, chip))
    assert (verified["device_id"], verified["status"]) == (chip.device_id, "affirming")


def test_result_verifies_with_the_published_key_alone(fleet: Fleet) -> None:
    chip = fleet.trusted()
    pem = fleet.place / "result.pub"
    pem.write_text(openssl("pkey", "-in", fleet.place / "results/key.pem", "-pubout"))
    issuer = "spiffe://fleet.example"
    assert fleet.done("ear", "verify", token(fleet, chip), "--key", pem, "--issuer", issuer)["status"] == "affirming"


def test_result_of_a_failed_device_is_not_success(fleet: Fleet) -> None:
    chip = fleet.trusted()
    chip.boot(BootImage().with_tampered_kernel())
    assert isinstance(fleet.attest(chip), Refused)
    spoken = fleet.attestd("ear", "verify", token(fleet, chip), "--json")
    assert spoken.exit_code == 1
    assert spoken.stdout == "" or json.loads(spoken.stdout)["status"] == "contraindicated"


@pytest.mark.parametrize("what", ["key", "device", "issuer", "altered", "not a token"])
def test_t02_result_that_is_not_what_it_should_be_is_refused(fleet: Fleet, what: str) -> None:
    path = token(fleet, fleet.trusted())
    options: list[str | Path] = []
    if what == "key":
        pem = fleet.place / "other.pub"
        pem.write_text(openssl("pkey", "-in", fleet.place / "issuer/development.key", "-pubout"))
        options = ["--key", pem]
    elif what == "device":
        options = ["--device", "a" * 52]
    elif what == "issuer":
        options = ["--issuer", "spiffe://other.example"]
    elif what == "altered":
        path.write_text(path.read_text()[:-8] + "AAAAAAAA")
    else:
        path.write_text("hello")
    spoken = fleet.attestd("ear", "verify", path, *options)
    assert (spoken.exit_code, spoken.error) == (1, "result-refused")
