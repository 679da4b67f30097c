"""Which claim an event makes, and when its text may be believed."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestd.appraisal.policy import CLAIMS, NEVER_IGNORED
from attestd.evidence.boot import boot_facts
from attestd.evidence.labels import printable
from attestd.tpm.errors import Malformed
from attestd.tpm.eventlog import parse_event_log, replay
from attestd.tpm.eventtypes import EventType as T
from event_logs import (
    GLOBAL,
    SECURITY,
    event,
    facts,
    facts_of,
    honest_boot,
    image,
    make_log,
    quoted,
    rewritten,
    variable,
)
from testdata import TESTDATA, needs_testdata


def late(*made):
    """Return the components that an honest boot has in addition when these events come before its hand-over."""
    honest = honest_boot()
    plain = {(c.pcr, c.digest, c.claim) for c in facts_of(honest).components}
    more = facts_of([*honest[:-2], *made, *honest[-2:]]).components
    return [c for c in more if (c.pcr, c.digest, c.claim) not in plain]


def early(*made):
    """Return the components of these events when they come first."""
    return [c for c in facts_of([*made, *honest_boot()]).components if c.event < len(made)]


def utf16(text):
    return text.encode("utf-16-le")


@pytest.mark.parametrize(
    ("value", "meaning"), [(b"\x01", "enabled"), (b"\x00", "disabled"), (b"", "disabled"), (b"\x02", "disabled")]
)
def test_secure_boot_says_whether_it_is_on(value, meaning):
    (component,) = early(event(7, T.EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", value)))
    assert (component.claim, component.value) == ("secure-boot", meaning)


def test_a_variable_of_another_vendor_is_not_secure_boot():
    data = variable("SecureBoot", b"\x01", guid=bytes(16))
    (component,) = early(event(7, T.EFI_VARIABLE_DRIVER_CONFIG, data))
    assert component.claim == "unknown-event"


@pytest.mark.parametrize(
    ("name", "guid", "claim"),
    [
        ("PK", GLOBAL, "secure-boot-pk"),
        ("KEK", GLOBAL, "secure-boot-kek"),
        ("db", SECURITY, "secure-boot-db"),
        ("dbx", SECURITY, "secure-boot-dbx"),
        ("dbt", SECURITY, "secure-boot-db"),
        ("SetupMode", GLOBAL, "secure-boot-mode"),
        ("db", GLOBAL, "unknown-event"),
        ("Whatever", GLOBAL, "unknown-event"),
    ],
)
def test_a_variable_of_secure_boot_is_known_by_its_name_and_vendor(name, guid, claim):
    (component,) = early(event(7, T.EFI_VARIABLE_DRIVER_CONFIG, variable(name, b"", guid=guid)))
    assert component.claim == claim


def test_a_signature_database_lists_its_digests():
    digest = bytes(range(32))
    kind = bytes.fromhex("2616c4c14c509240aca941f936934328")
    lists = kind + pack("<III", 28 + 48, 0, 48) + GLOBAL + digest
    (component,) = early(event(7, T.EFI_VARIABLE_DRIVER_CONFIG, variable("db", lists, guid=SECURITY)))
    assert component.value is not None
    assert component.value.endswith(digest.hex())


def test_the_first_image_behind_the_separator_is_the_loader():
    before = event(4, T.EFI_BOOT_SERVICES_APPLICATION, image("\\firmware.efi"), content=b"the firmware's own")
    assert [c.claim for c in early(before)] == ["application"]
    loaders = [c for c in facts_of([before, *honest_boot()]).components if c.claim == "loader"]
    assert [c.label for c in loaders] == ["\\EFI\\BOOT\\BOOTX64.EFI"]


def test_an_image_has_no_value_and_is_judged_by_its_digest():
    (loader,) = [c for c in facts_of(honest_boot()).components if c.claim == "loader"]
    assert loader.value is None


def test_the_addresses_of_an_image_do_not_matter():
    log = make_log(honest_boot())
    moved = rewritten(log, lambda e: e.data == image(), data=b"\x77" * 8 + image()[8:])
    assert facts(moved, pcrs=quoted(log)).components == facts(log).components


@pytest.mark.parametrize(
    ("pcr", "kind", "claim"),
    [
        (0, T.EFI_PLATFORM_FIRMWARE_BLOB, "firmware"),
        (0, T.POST_CODE, "firmware"),
        (0, T.S_CRTM_CONTENTS, "firmware"),
        (0, T.S_CRTM_VERSION, "firmware"),
        (1, T.EFI_HANDOFF_TABLES, "platform-config"),
        (1, T.CPU_MICROCODE, "platform-config"),
        (2, T.EFI_BOOT_SERVICES_DRIVER, "option-rom"),
        (2, T.PLATFORM_CONFIG_FLAGS, "option-rom"),
        (2, T.EFI_VARIABLE_DRIVER_CONFIG, "option-rom"),
        (3, T.PLATFORM_CONFIG_FLAGS, "option-rom-config"),
        (6, T.COMPACT_HASH, "management"),
        (9, T.EVENT_TAG, "boot-file"),
        (12, T.IPL, "system-extension"),
        (13, T.IPL, "system-extension"),
        (14, T.IPL, "mok"),
        (0, T.IPL, "unknown-event"),
        (4, T.IPL, "application"),
        (7, T.EVENT_TAG, "unknown-event"),
        (8, T.EVENT_TAG, "unknown-event"),
        (11, T.EVENT_TAG, "unknown-event"),
    ],
)
def test_what_the_log_has_no_content_of_is_claimed_by_register_and_type(pcr, kind, claim):
    (component,) = early(event(pcr, kind, b"some label", content=b"a content elsewhere"))
    assert (component.claim, component.value) == (claim, None)


def test_a_version_that_hashes_is_text():
    (component,) = early(event(0, T.S_CRTM_VERSION, utf16("Version 2.7\0")))
    assert (component.claim, component.value) == ("firmware-version", "Version 2.7")


def test_e01_firmware_that_is_logged_whole_as_a_version_is_firmware():
    (component,) = early(event(0, T.S_CRTM_VERSION, b"code" * 1000))
    assert component.claim == "firmware"


def test_e01_a_driver_that_is_also_a_variable_is_an_option_rom():
    (component,) = early(event(2, T.EFI_VARIABLE_DRIVER_CONFIG, variable("x", b"code")))
    assert component.claim == "option-rom"


@pytest.mark.parametrize("text", [b"UEFI Debug Mode", b"DMA Protection Disabled"])
def test_what_firmware_admits_to_in_pcr_7_is_policy(text):
    (component,) = early(event(7, T.EFI_ACTION, text))
    assert (component.claim, component.value) == ("secure-boot-mode", text.decode())


def test_a_boot_entry_does_not_depend_on_its_number():
    option = pack("<IH", 1, 4) + utf16("Linux\0") + bytes((0x7F, 0xFF, 4, 0))
    first, second = early(
        event(1, T.EFI_VARIABLE_BOOT, variable("Boot0001", option)),
        event(1, T.EFI_VARIABLE_BOOT, variable("Boot0007", option)),
    )
    assert first.claim == second.claim == "boot-entry"
    assert first.value == second.value == "Linux attributes=0x1"


def test_a_boot_variable_whose_value_alone_is_hashed_has_a_value():
    data = variable("BootOrder", b"\x02\0\x01\0")
    (component,) = early(event(1, T.EFI_VARIABLE_BOOT, data, content=b"\x02\0\x01\0"))
    assert (component.claim, component.value) == ("boot-order", "0002,0001")


def test_a_command_of_grub_is_text_without_its_prefix():
    (component,) = late(event(8, T.IPL, b"grub_cmd: insmod ext2\0", content=b"insmod ext2"))
    assert (component.claim, component.value) == ("grub-command", "insmod ext2")


def test_a_command_line_from_grub_is_text():
    (component,) = [c for c in facts_of(honest_boot()).components if c.claim == "kernel-command-line"]
    assert component.value == "/vmlinuz quiet"


@pytest.mark.parametrize(
    ("name", "claim"),
    [
        (b"(hd0,gpt1)/boot/vmlinuz-6.1", "kernel"),
        (b"/boot/initrd.img-6.1", "initrd"),
        (b"/boot/initramfs-linux.img", "initrd"),
        (b"(hd0,gpt1)/boot/grub/grub.cfg", "boot-file"),
    ],
)
def test_a_file_that_grub_read_is_judged_by_its_digest_whatever_its_name(name, claim):
    (component,) = late(event(9, T.IPL, name + b"\0", content=b"a content"))
    assert (component.claim, component.value) == (claim, None)
    assert claim in NEVER_IGNORED


def test_sections_of_a_unified_kernel_are_named_by_the_event_before_them():
    name, content, other, splash = late(
        event(11, T.IPL, utf16(".cmdline\0"), content=b".cmdline\0"),
        event(11, T.IPL, utf16(".linux\0"), content=b"root=/dev/vda"),
        event(11, T.IPL, utf16(".splash\0"), content=b".splash\0"),
        event(11, T.IPL, utf16(".cmdline\0"), content=b"a picture"),
    )
    # What an event says of itself does not matter: the name that was hashed before does.
    assert (name.claim, name.value) == ("uki-section", ".cmdline")
    assert (content.claim, content.value) == ("kernel-command-line", None)
    assert (other.value, splash.claim) == (".splash", "uki-section")


def test_a_section_without_its_name_is_an_unknown_event():
    (component,) = late(event(11, T.IPL, utf16(".linux\0"), content=b"a kernel without a name"))
    assert component.claim == "unknown-event"


def test_a_command_line_in_pcr_12_is_text():
    (component,) = late(event(12, T.IPL, utf16("quiet debug\0")))
    assert (component.claim, component.value) == ("kernel-command-line", "quiet debug")


def test_credentials_in_pcr_12_are_judged_by_their_digest():
    (component,) = late(event(12, T.IPL, utf16("Credentials initrd\0"), content=b"a secret"))
    assert (component.claim, component.value) == ("system-extension", None)


def test_an_authority_is_known_by_its_certificate():
    data = variable("db", bytes(16) + b"a certificate", guid=SECURITY)
    (component,) = late(event(7, T.EFI_VARIABLE_AUTHORITY, data))
    assert component.claim == "secure-boot-authority"
    assert component.value is not None
    assert component.value.startswith("db sha256:")


def test_e11_control_characters_in_a_label_are_escaped():
    (component,) = late(event(14, T.IPL, b"Mok\x1b[31mList\n<script>\0", content=b"keys"))
    assert component.label.isprintable()
    assert "\\x1b" in component.label


def test_e11_a_label_is_short():
    (component,) = late(event(14, T.IPL, b"M" * 5000, content=b"keys"))
    assert len(component.label) <= 256


def test_e11_lone_surrogates_and_direction_marks_are_escaped():
    assert printable("a\u202eb\ud800") == "a\\u202eb\\ud800"


def test_an_event_is_examined_again_where_its_place_differs():
    first, second = late(
        event(11, T.IPL, utf16(".linux\0"), content=b".linux\0"),
        event(11, T.IPL, utf16(".linux\0"), content=b".linux\0"),
    )
    # The second is the content of the section that the first names, although both are the same event.
    assert (first.claim, second.claim) == ("uki-section", "kernel")


KINDS = st.sampled_from([int(kind) for kind in T]) | st.integers(0, 2**32 - 1)


def test_boot_entries_that_are_measured_together_are_each_a_component():
    option = pack("<IH", 1, 4) + utf16("Linux\0") + bytes((0x7F, 0xFF, 4, 0))
    data = variable("BootOrder", b"\x13\0\x09\0") + variable("Boot0013", option) + variable("Boot0009", option)
    found = [c for c in late(event(1, T.EFI_VARIABLE_BOOT, data)) if c.pcr == 1]
    assert [(c.claim, c.value) for c in found[:1]] == [("boot-order", "0013,0009")]
    assert [c.claim for c in found[1:]] == ["boot-entry", "boot-entry"]


@pytest.mark.parametrize("index", [17, 18, 22])
def test_what_a_dynamic_launch_measures_is_a_claim_of_its_own(index):
    log = make_log([*honest_boot(), event(index, 0x404, b"", content=b"a launch environment")])
    found = facts(log, pcrs={**quoted(log), index: replay(log, "sha256").pcrs[index]})
    (component,) = [c for c in found.components if c.pcr == index]
    assert (component.claim, component.value, component.label) == (
        "dynamic-launch",
        None,
        f"TXT_MLE_HASH in PCR {index}",
    )


def test_what_devices_are_accepted_by_is_policy():
    data = variable("devdb", b"", guid=SECURITY)
    (component,) = [c for c in late(event(7, T.EFI_SPDM_DEVICE_POLICY, data)) if c.pcr == 7]
    assert (component.claim, component.value) == ("secure-boot-db", "devdb\n(empty)")


DATA = st.binary(max_size=200) | st.builds(
    lambda name, value: variable(name, value, guid=SECURITY),
    st.sampled_from(["db", "SbatLevel", "PK"]),
    st.binary(max_size=80),
)


@given(st.lists(st.tuples(st.integers(0, 23), KINDS, DATA, st.booleans()), max_size=8))
def test_whatever_an_event_says_it_becomes_a_known_claim_with_a_printable_label(made):
    events = [event(pcr, kind, data, content=data if honest else b"other") for pcr, kind, data, honest in made]
    found = facts_of([*honest_boot(), *events])
    assert {component.claim for component in found.components} <= CLAIMS.keys()
    assert all(component.label.isprintable() for component in found.components)


@given(st.sampled_from([int(kind) for kind in T if kind is not T.NO_ACTION]), st.sampled_from([0, 2, 4, 8, 9, 11, 12]))
def test_e01_no_type_turns_unlogged_content_into_a_claim_that_can_be_ignored(kind, pcr):
    """Whatever type a liar gives to code whose digest he cannot change, a profile has to say yes to that digest."""
    honest = honest_boot()
    lie = make_log([*honest[:-2], event(pcr, kind, b"a harmless label", content=b"evil code"), *honest[-2:]])
    (component,) = [c for c in facts(lie).components if c.event == len(honest) - 2]
    assert component.value is None
    assert component.claim in NEVER_IGNORED | {"firmware", "option-rom"}


def _logs():
    folder = TESTDATA / "eventlog" / "uefi"
    return sorted(folder.iterdir()) if folder.is_dir() else []


@needs_testdata
@pytest.mark.testdata
@pytest.mark.parametrize("path", _logs(), ids=lambda path: path.name)
def test_every_log_of_a_real_machine_becomes_components_with_known_claims(path):
    data = path.read_bytes()
    try:
        log = parse_event_log(data)
    except Malformed:
        pytest.skip("not a log on its own")
    bank = "sha256" if "sha256" in log.algorithms else log.algorithms[0]
    found = boot_facts(log, log_digest=bytes(32), bank=bank, pcrs=replay(log, bank).pcrs)
    assert {component.claim for component in found.components} <= CLAIMS.keys()
    assert all(component.label.isprintable() for component in found.components)
    extended = [e for e in log.events if e.type != T.NO_ACTION and dict(e.digests).get(bank)]
    assert [e.index for e in extended] == list(dict.fromkeys(component.event for component in found.components))
