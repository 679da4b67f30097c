"""The simulated firmware, held against the verifier's own parsers, other programs and a real machine's log."""

import hashlib
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from attestd.evidence.boot import boot_facts
from attestd.tpm import ima as verifier_ima
from attestd.tpm.eventlog import parse_event_log
from attestd.tpm.public import Attribute, parse_public_area
from attestd_agent import tpm_templates
from attestd_agent.lab import ima
from attestd_agent.lab.__main__ import VARIANTS, main
from attestd_agent.lab.authenticode import image_digest, pe_image
from attestd_agent.lab.firmware import BootImage, simulate_boot
from attestd_agent.lab.manufacturer import Manufacturer
from attestd_agent.lab.swtpm import SoftwareTpm
from attestd_agent.tpm_esys import LabTpm
from swtpm import SWTPM_MARKS
from testdata import TESTDATA, needs_testdata

REAL_LOG = TESTDATA / "eventlog/uefi/python3-uefi-eventlog__ubuntu_qemu__css-flex14vm4-bootlog.bin"


def registers(image: BootImage, bank: str = "sha256") -> dict[int, bytes]:
    """Return PCR 0 to 14 after a boot of this image."""
    size = hashlib.new(bank).digest_size
    values = dict.fromkeys(range(15), bytes(size))
    for index, digests in simulate_boot(image, banks=(bank,)).extends:
        values[index] = hashlib.new(bank, values[index] + digests[bank]).digest()
    return values


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bank", ["sha1", "sha256", "sha384"])
def test_verifier_finds_nothing_wrong_with_a_simulated_log(variant: str, bank: str) -> None:
    image = VARIANTS[variant](BootImage())
    data = simulate_boot(image, banks=(bank,)).event_log
    log_digest = hashlib.sha256(data).digest()
    facts = boot_facts(parse_event_log(data), log_digest=log_digest, bank=bank, pcrs=registers(image, bank))
    assert facts.findings == ()
    assert facts.unexplained == facts.unlogged == frozenset()


def test_verifier_reads_the_facts_of_a_simulated_log() -> None:
    data = simulate_boot(BootImage().with_command_line("ro panic=1")).event_log
    facts = boot_facts(
        parse_event_log(data),
        log_digest=hashlib.sha256(data).digest(),
        bank="sha256",
        pcrs=registers(BootImage().with_command_line("ro panic=1")),
    )
    values = {component.claim: component.value for component in facts.components}
    assert values["kernel-command-line"] == "/vmlinuz-6.1.0-29-amd64 ro panic=1"
    assert values["secure-boot"] == "enabled"
    assert values["firmware-version"] == "LAB 1.0.0"


def test_same_image_gives_the_same_log() -> None:
    assert simulate_boot(BootImage()).event_log == simulate_boot(BootImage()).event_log


@needs_testdata
@pytest.mark.testdata
def test_simulated_log_has_the_kinds_of_events_of_a_real_one_in_their_order() -> None:
    """Each run of events of one register and kind, of firmware that differs only in how often each occurs."""
    mine = shape(simulate_boot(BootImage()).event_log)
    real = shape(REAL_LOG.read_bytes())
    # The real firmware uses the older structure for its volumes, and names the network ROM three times.
    assert [(0, 0x80000008) if item == (0, 0x8000000A) else item for item in mine] == real


def shape(data: bytes) -> list[tuple[int, int]]:
    """Return (register, kind) of the log's events; repeated ones, and GRUB's mix of commands and files, only once."""
    found: list[tuple[int, int]] = []
    for event in parse_event_log(data).events:
        item = (event.pcr, event.type)
        if (event.pcr in (8, 9) and item in found) or (found and found[-1] == item):
            continue
        found.append(item)
    return found


def test_authenticode_digest_ignores_signature_and_checksum_and_nothing_else() -> None:
    image = pe_image(b"a boot loader")
    digest = image_digest(image, "sha256")
    header = 0x40 + 24
    certificates = b"signature".ljust(512, b"\0")
    signed = bytearray(image + certificates)
    struct.pack_into("<II", signed, header + 112 + 8 * 4, len(image), len(certificates))
    struct.pack_into("<I", signed, header + 64, 0x12345678)
    assert image_digest(bytes(signed), "sha256") == digest
    for at in (header + 60, header + 68, len(image) - 1):
        changed = bytearray(signed)
        changed[at] ^= 1
        assert image_digest(bytes(changed), "sha256") != digest


def test_digest_of_what_is_no_pe_image_is_the_plain_one() -> None:
    assert image_digest(b"MZ but no image", "sha256") == hashlib.sha256(b"MZ but no image").digest()


@pytest.mark.parametrize("convention", ["per_bank", "padded_sha1"])
def test_verifier_replays_a_simulated_runtime_list(convention: ima.Convention) -> None:
    entries = (
        ima.boot_aggregate((b"\x01" * 32,) * 10),
        ima.measured_file("/usr/bin/true", b"true"),
        ima.ImaEntry(b"/var/log/\xff\n", bytes(32), violation=True),
        ima.measured_file("/usr/bin/false", b"false"),
    )
    runtime = verifier_ima.parse_ima(ima.encode_list(entries))
    assert [entry.violation for entry in runtime.entries] == [False, False, True, False]
    assert verifier_ima.template_hash_mismatches(runtime) == ()
    value = bytes(32)
    for _, digests in ima.extends(entries, convention=convention):
        value = hashlib.sha256(value + digests["sha256"]).digest()
    replayed = verifier_ima.replay(runtime, "sha256", padded=convention == "padded_sha1")
    assert list(replayed)[-1] == value


@pytest.mark.parametrize("template", tpm_templates.EK_TEMPLATES, ids=lambda row: row.name)
def test_verifier_reads_the_endorsement_key_templates(template: tpm_templates.EkTemplate) -> None:
    """All but RSA's empty modulus and the curves' empty points, which no key has."""
    area = template.public
    assert int.from_bytes(area[4:8], "big") & Attribute.RESTRICTED
    assert int.from_bytes(area[4:8], "big") & Attribute.DECRYPT
    assert not int.from_bytes(area[4:8], "big") & Attribute.SIGN


def test_verifier_reads_the_attestation_key_template() -> None:
    public = parse_public_area(tpm_templates.ATTESTATION_KEY)
    wanted = Attribute.RESTRICTED | Attribute.SIGN | Attribute.FIXED_TPM | Attribute.FIXED_PARENT
    assert public.attributes & wanted == wanted
    assert not public.attributes & Attribute.DECRYPT


# --- The command ------------------------------------------------------------------------------------------------------


@pytest.mark.swtpm
@SWTPM_MARKS[1]
def test_command_runs_on_a_booted_device_and_its_exit_code_comes_back(tmp_path: Path) -> None:
    script = (
        "import os, sys; from attestd_agent.tpm_esys import EsysTpm; "
        "tpm = EsysTpm(os.environ['ATTESTD_AGENT_TCTI']); "
        "values = dict(tpm.quote(b'n', bank='sha256', pcrs=(4, 8)).pcrs); "
        "open(sys.argv[1], 'wb').write(values[8] + open(os.environ['ATTESTD_AGENT_EVENT_LOG'], 'rb').read()); sys.exit(7)"
    )
    for variant in ("healthy", "command-line"):
        out = tmp_path / variant
        code = main([str(tmp_path / "device"), "--variant", variant, "--", sys.executable, "-c", script, str(out)])
        image = VARIANTS[variant](BootImage())
        assert code == 7
        assert out.read_bytes() == registers(image)[8] + simulate_boot(image).event_log


@pytest.mark.swtpm
@SWTPM_MARKS[1]
def test_command_that_is_told_to_end_switches_its_device_off_in_order(tmp_path: Path) -> None:
    directory = tmp_path / "device"
    program = [sys.executable, "-m", "attestd_agent.lab", str(directory), "--", "sleep", "60"]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert any("lab: booted" in line for line in process.stderr)
        process.terminate()
        assert process.wait(10) == 143
    tpm = SoftwareTpm(directory, Manufacturer(directory / "maker"))
    with closing(tpm.power_on()):
        assert LabTpm(tpm.tcti).clock()[3], "the TPM remembers a power cut"
