"""What Windows' boot manager measures: each thing of an event is a component, by what the event's digest vouches for."""

from hashlib import sha256
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestd.appraisal.policy import CLAIMS, NEVER_IGNORED
from attestd.evidence.boot import boot_facts
from attestd.evidence.windows import windows_parts
from attestd.tpm import wbcl
from attestd.tpm.eventlog import parse_event_log, replay
from attestd.tpm.eventtypes import EventType as T
from event_logs import event, facts_of, honest_boot
from testdata import TESTDATA, needs_testdata


def tag(kind: int, body: bytes) -> bytes:
    return pack("<II", kind, len(body)) + body


def boundary(*parts: bytes) -> bytes:
    return tag(wbcl.TRUST_BOUNDARY, b"".join(parts))


def wide(text: str) -> bytes:
    return (text + "\0").encode("utf-16-le")


def module(*, publisher: str = "Microsoft Windows", validated: bytes = b"\x01") -> bytes:
    return tag(
        wbcl.MODULE,
        tag(wbcl.FILE_PATH, wide("\\Windows\\system32\\winload.efi"))
        + tag(wbcl.HASH_ALGORITHM, pack("<I", 0x800C))
        + tag(wbcl.AUTHENTICODE, b"\x22" * 32)
        + tag(wbcl.VALIDATED, validated)
        + tag(wbcl.PUBLISHER, wide(publisher)),
    )


def claims_of(data: bytes, *, pcr: int = 13, content: bytes | None = None) -> list[tuple[str, str | None]]:
    made = event(pcr, T.EVENT_TAG, data, content=data if content is None else content)
    return [(c.claim, c.value) for c in facts_of([*honest_boot(), made]).components if c.pcr == pcr]


def test_each_setting_is_a_claim_of_its_own():
    found = claims_of(boundary(tag(0x00040001, b"\0"), tag(0x00050003, b"\x01"), tag(0x00050009, wide("\\Windows"))))

    assert found == [
        ("windows-setting", "boot debugging: off"),
        ("windows-setting", "test signing: on"),
        ("windows-setting", "system root: \\Windows"),
    ]


def test_an_image_is_told_by_publisher_digest_and_path():
    ((claim, value),) = claims_of(boundary(module()))

    assert claim == "windows-module"
    assert value == f"Microsoft Windows sha256:{'22' * 32} \\Windows\\system32\\winload.efi"


def test_an_image_that_was_not_validated_has_no_publisher():
    ((_, value),) = claims_of(boundary(module(validated=b"\0")))

    assert value == f"(not validated) sha256:{'22' * 32} \\Windows\\system32\\winload.efi"


def test_counters_are_apart_from_settings():
    assert claims_of(boundary(tag(0x00020002, pack("<Q", 62))), pcr=12) == [("windows-state", "boot counter: 62")]


def test_a_revocation_list_has_a_day():
    body = bytes.fromhex("0033171a9b2cd701200000000b00") + b"\x33" * 32

    ((claim, value),) = claims_of(boundary(tag(wbcl.BOOT_REVOCATIONS, body)))

    assert (claim, value) == ("windows-policy", f"boot revocation list: 2021-04-08 sha256:{'33' * 32}")


def test_a_code_integrity_policy_has_name_and_version():
    name = wide("SiPolicy.p7b")
    body = pack("<QHHI", 10 << 48, len(name), 0x0B, 32) + name + b"\x44" * 32

    ((_, value),) = claims_of(boundary(tag(wbcl.INTEGRITY_POLICY, body)))

    assert value == f"code integrity policy: SiPolicy.p7b 10.0.0.0 sha256:{'44' * 32}"


def test_the_key_behind_what_was_loaded_is_told_by_its_hash():
    found = claims_of(tag(wbcl.AUTHORITY_KEY, b"key"), pcr=14)

    assert found == [("windows-authority", f"key sha256:{sha256(b'key').hexdigest()}")]


def test_a_tag_without_a_known_meaning_is_a_setting():
    assert claims_of(boundary(tag(0x000500FE, b"\x05"))) == [("windows-setting", "tag 0x000500fe: 5")]


@pytest.mark.parametrize("content", [b"other", boundary(tag(0x00040001, b"\x01"))])
def test_e02_what_no_digest_vouches_for_makes_no_claim_of_windows(content):
    ((claim, value),) = claims_of(boundary(tag(0x00040001, b"\0")), content=content)

    assert (claim, value) == ("system-extension", None)


@given(data=st.binary(min_size=9, max_size=120), pcr=st.sampled_from([12, 13]))
def test_e01_a_command_line_called_an_event_of_windows_is_under_no_claim_that_can_be_ignored(data, pcr):
    for body in (data, boundary(tag(0x00050009, data)), tag(wbcl.AUTHORITY_KEY, data), tag(0x00020002, data)):
        assert {part.claim for part in windows_parts(pcr, body)} <= NEVER_IGNORED


@given(data=st.binary(max_size=200), pcr=st.sampled_from([11, 12, 13, 14]))
def test_whatever_the_bytes_the_claims_are_known_ones(data, pcr):
    for body in (data, boundary(data), boundary(tag(wbcl.MODULE, data)), boundary(tag(wbcl.INTEGRITY_POLICY, data))):
        assert {part.claim for part in windows_parts(pcr, body)} <= CLAIMS.keys()


def _logs():
    folder = TESTDATA / "eventlog" / "uefi"
    return sorted(path for path in folder.iterdir() if "specid" not in path.name) if folder.is_dir() else []


NOT_UNDERSTOOD = {
    "acs__acs__tpm2bios.log",  # an OpenPOWER machine, whose events hash other things than UEFI's
    "guard-oss__testdata__binary_bios_measurements_27",  # a BIOS that booted by INT 19h
}


@needs_testdata
@pytest.mark.testdata
@pytest.mark.parametrize("path", _logs(), ids=lambda path: path.name)
def test_every_event_of_a_real_machine_is_understood(path):
    log = parse_event_log(path.read_bytes())
    bank = "sha256" if "sha256" in log.algorithms else log.algorithms[0]

    found = boot_facts(log, log_digest=bytes(32), bank=bank, pcrs=replay(log, bank).pcrs).components

    unknown = [component.label for component in found if component.claim == "unknown-event"]
    assert bool(unknown) is (path.name in NOT_UNDERSTOOD), unknown


@needs_testdata
@pytest.mark.testdata
def test_a_real_windows_shows_its_settings_its_kernel_and_what_it_revokes():
    log = parse_event_log((TESTDATA / "eventlog/uefi/guard-oss__IMN-DELL.evidence.eventlog.bin").read_bytes())

    found = boot_facts(log, log_digest=bytes(32), bank="sha1", pcrs=replay(log, "sha1").pcrs).components

    values = {claim: [c.value for c in found if c.claim == claim] for claim in ("windows-setting", "windows-module")}
    assert {"boot debugging: off", "test signing: off", "code integrity: on"} <= set(values["windows-setting"])
    assert any(value.startswith("Microsoft Windows sha256:") for value in values["windows-module"])
    policies = [c.value for c in found if c.claim == "windows-policy"]
    assert any(value.startswith("boot revocation list: 2021-04-08 sha256:") for value in policies)
