"""Event data of real machines: what decodes, and what a digest vouches for."""

from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509

from attestd.tpm.errors import Malformed
from attestd.tpm.eventdata import (
    parse_crtm_version,
    parse_firmware_blob,
    parse_gpt,
    parse_image_load,
    parse_ipl,
    parse_post_code,
    parse_separator,
    parse_text,
    parse_variable,
)
from attestd.tpm.eventlog import Event, EventLog, EventType, parse_event_log
from attestd.tpm.measured import measured
from attestd.tpm.signaturelist import parse_authority, parse_signature_lists
from testdata import TESTDATA, manifest_items, needs_testdata

pytestmark = [pytest.mark.testdata, needs_testdata]

Item = dict[str, Any]

LOGS = [
    item
    for item in manifest_items("eventlog/uefi", "eventlog/ccel", "eventlog/tpm12")
    if "specid-vendordata" not in item["file"]
]

DECODERS: dict[int, Callable[[bytes], object]] = {
    EventType.EFI_VARIABLE_DRIVER_CONFIG: parse_variable,
    EventType.EFI_VARIABLE_BOOT: parse_variable,
    EventType.EFI_VARIABLE_AUTHORITY: parse_variable,
    EventType.EFI_BOOT_SERVICES_APPLICATION: parse_image_load,
    EventType.EFI_BOOT_SERVICES_DRIVER: parse_image_load,
    EventType.EFI_RUNTIME_SERVICES_DRIVER: parse_image_load,
    EventType.EFI_GPT_EVENT: parse_gpt,
    EventType.EFI_PLATFORM_FIRMWARE_BLOB: parse_firmware_blob,
    EventType.EFI_PLATFORM_FIRMWARE_BLOB2: parse_firmware_blob,
    EventType.POST_CODE: parse_post_code,
    EventType.S_CRTM_VERSION: parse_crtm_version,
    EventType.EFI_ACTION: parse_text,
    EventType.IPL: parse_ipl,
    EventType.SEPARATOR: parse_separator,
}
UNDECODED = {
    # One variable's event carries the data of all boot entries that follow it.
    "guard-oss__testdata__tpm12_windows_lenovo_x1carbonv3": {"eventdata-size": 1},
}
VOUCHED = (EventType.EFI_VARIABLE_DRIVER_CONFIG, EventType.EFI_GPT_EVENT, EventType.EFI_ACTION)


def identity(item: Item) -> str:
    return str(item["file"])


def log_of(item: Item) -> EventLog:
    return parse_event_log((TESTDATA / item["file"]).read_bytes())


def code_of(event: Event) -> str | None:
    try:
        DECODERS[event.type](event.data)
    except Malformed as error:
        return error.code
    return None


@pytest.mark.parametrize("item", LOGS, ids=identity)
def test_the_data_of_a_real_log_decodes(item):
    codes: dict[str, int] = {}

    for event in log_of(item).events:
        code = code_of(event) if event.type in DECODERS else None
        if code is not None:
            codes[code] = codes.get(code, 0) + 1

    assert codes == UNDECODED.get(item["file"].rsplit("/", 1)[-1], {})


@pytest.mark.parametrize("item", LOGS, ids=identity)
def test_variables_partitions_and_actions_of_a_real_log_are_vouched_for(item):
    events = [event for event in log_of(item).events if event.type in VOUCHED]

    assert [event for event in events if measured(event, event.digests[-1][0]) is None] == []


def secure_boot_databases() -> list[Any]:
    found = []
    for item in LOGS:
        for event in log_of(item).events:
            if event.type == EventType.EFI_VARIABLE_DRIVER_CONFIG:
                variable = parse_variable(event.data)
                if variable.name in {"PK", "KEK", "db", "dbx"} and variable.data:
                    found.append(pytest.param(variable, id=f"{item['file']}:{variable.name}"))
    return found


@pytest.mark.parametrize("variable", secure_boot_databases())
def test_a_real_secure_boot_database_is_made_of_known_lists(variable):
    lists = parse_signature_lists(variable.data)

    assert {found.type for found in lists} <= {"x509", "sha256"}
    assert all(len(entry.data) == 32 for found in lists if found.type == "sha256" for entry in found.signatures)
    assert sum(len(found.signatures) for found in lists) > 0


def authorities() -> list[Any]:
    found = []
    for item in LOGS:
        for event in log_of(item).events:
            if event.type == EventType.EFI_VARIABLE_AUTHORITY:
                variable = parse_variable(event.data)
                if variable.name in {"db", "Shim", "vendor_db"}:
                    found.append(pytest.param(variable, id=f"{item['file']}:{event.index}:{variable.name}"))
    return found


@pytest.mark.filterwarnings("ignore:Attribute's length must be")
@pytest.mark.parametrize("variable", authorities())
def test_the_authority_that_let_an_image_start_is_a_certificate(variable):
    entry = parse_authority(variable.data)

    assert x509.load_der_x509_certificate(entry.data).subject is not None


@pytest.mark.parametrize("file", ["db", "kek", "kekdefault"])
def test_a_dumped_variable_holds_signature_lists(file):
    # efivarfs puts four bytes of attributes before the value.
    data = (TESTDATA / "uefi" / "variable" / f"go-uefi__testdata__{file}").read_bytes()[4:]

    lists = parse_signature_lists(data)

    assert {found.type for found in lists} == {"x509"}


@pytest.mark.parametrize("machine", ["good-1", "tampered-cmdline"])
def test_a_measured_boots_sections_are_vouched_for_by_name(machine):
    log = parse_event_log((TESTDATA / "vm" / machine / "eventlog.bin").read_bytes())

    names = [
        found.data
        for event in log.events
        if event.type == EventType.IPL and event.pcr == 11
        for found in [measured(event, "sha256")]
        if found is not None
    ]

    assert names == [b".linux\0", b".osrel\0", b".cmdline\0", b".initrd\0"]
