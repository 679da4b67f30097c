"""Names of event types (PC client platform firmware profile 1.06, tables 27 and 28).

The type of an event is not covered by its digest: it says how to read the data, never that the data may be believed.
"""

from enum import IntEnum


class EventType(IntEnum):
    """Types that the profile defines, with its names less the EV_ prefix."""

    PREBOOT_CERT = 0x00000000
    POST_CODE = 0x00000001
    UNUSED = 0x00000002
    NO_ACTION = 0x00000003
    SEPARATOR = 0x00000004
    ACTION = 0x00000005
    EVENT_TAG = 0x00000006
    S_CRTM_CONTENTS = 0x00000007
    S_CRTM_VERSION = 0x00000008
    CPU_MICROCODE = 0x00000009
    PLATFORM_CONFIG_FLAGS = 0x0000000A
    TABLE_OF_DEVICES = 0x0000000B
    COMPACT_HASH = 0x0000000C
    IPL = 0x0000000D
    IPL_PARTITION_DATA = 0x0000000E
    NONHOST_CODE = 0x0000000F
    NONHOST_CONFIG = 0x00000010
    NONHOST_INFO = 0x00000011
    OMIT_BOOT_DEVICE_EVENTS = 0x00000012
    POST_CODE2 = 0x00000013
    EFI_EVENT_BASE = 0x80000000
    EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
    EFI_VARIABLE_BOOT = 0x80000002
    EFI_BOOT_SERVICES_APPLICATION = 0x80000003
    EFI_BOOT_SERVICES_DRIVER = 0x80000004
    EFI_RUNTIME_SERVICES_DRIVER = 0x80000005
    EFI_GPT_EVENT = 0x80000006
    EFI_ACTION = 0x80000007
    EFI_PLATFORM_FIRMWARE_BLOB = 0x80000008
    EFI_HANDOFF_TABLES = 0x80000009
    EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000A
    EFI_HANDOFF_TABLES2 = 0x8000000B
    EFI_VARIABLE_BOOT2 = 0x8000000C
    EFI_GPT_EVENT2 = 0x8000000D
    EFI_HCRTM_EVENT = 0x80000010
    EFI_VARIABLE_AUTHORITY = 0x800000E0
    EFI_SPDM_FIRMWARE_BLOB = 0x800000E1
    EFI_SPDM_FIRMWARE_CONFIG = 0x800000E2
    EFI_SPDM_DEVICE_POLICY = 0x800000E3
    EFI_SPDM_DEVICE_AUTHORITY = 0x800000E4


class TxtEventType(IntEnum):
    """Types of Intel TXT's own log (Software Development Guide, appendix F), and tboot's; the numbers have no name elsewhere."""

    PCRMAPPING = 0x401
    HASH_START = 0x402
    COMBINED_HASH = 0x403
    MLE_HASH = 0x404
    BIOSAC_REG_DATA = 0x40A
    CPU_SCRTM_STAT = 0x40B
    LCP_CONTROL_HASH = 0x40C
    ELEMENTS_HASH = 0x40D
    STM_HASH = 0x40E
    OSSINITDATA_CAP_HASH = 0x40F
    SINIT_PUBKEY_HASH = 0x410
    LCP_HASH = 0x411
    LCP_DETAILS_HASH = 0x412
    LCP_AUTHORITIES_HASH = 0x413
    NV_INFO_HASH = 0x414
    COLD_BOOT_BIOS_HASH = 0x415
    KM_HASH = 0x416
    BPM_HASH = 0x417
    KM_INFO_HASH = 0x418
    BPM_INFO_HASH = 0x419
    BOOT_POL_HASH = 0x41A
    RANDOM = 0x4FE
    CAP_VALUE = 0x4FF
    TBOOT_MODULE = 0x501
    SLAUNCH = 0x502
    SLAUNCH_START = 0x503
    SLAUNCH_END = 0x504


_NAMES = {int(member): f"TXT_{member.name}" for member in TxtEventType}
_NAMES |= {int(member): f"EV_{member.name}" for member in EventType}


def event_type_name(number: int) -> str:
    """Return the profile's name ("EV_SEPARATOR"), or "unknown-0x…" for a number it does not define."""
    return _NAMES.get(number) or f"unknown-0x{number:08x}"
