"""Tagged events inside of events, as Windows' boot manager and a few others write them.

Each is a 32-bit type, a 32-bit size and data; containers hold further ones. Proves that tagged events fill their bytes, within
bounds; what reads containers goes three levels deep and no further. Does not say that the bytes were measured.
wbcl.h of the Windows Driver Kit; Linux drivers/firmware/efi/libstub; systemd's boot loader and stub.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Final

from attestd.tpm.errors import Malformed

_HEADER: Final = Struct("<II")
_MOST: Final = 4096
"""Tagged events in one container: a boot loads under 300 modules."""

CONTAINER: Final = 0x4000_0000
"""The bit of a type that says that its data are further tagged events."""
TRUST_BOUNDARY: Final = 0x40010001
ANTI_MALWARE: Final = 0x40010002
MODULE: Final = 0x40010003
BOOT_REVOCATIONS: Final = 0x00040002
SYSTEM_REVOCATIONS: Final = 0x00050013
INTEGRITY_POLICY: Final = 0x0005000F
AUTHORITY_KEY: Final = 0x00060002
FILE_PATH, HASH_ALGORITHM, AUTHENTICODE, PUBLISHER, VALIDATED, MODULE_VERSION = (
    0x00070001,
    0x00070003,
    0x00070004,
    0x00070008,
    0x0007000A,
    0x0007000B,
)

NAMES: Final = {
    TRUST_BOUNDARY: "trust boundary",
    ANTI_MALWARE: "early-launch anti-malware",
    MODULE: "loaded module",
    0xC0010004: "trust point",
    0x40010005: "kernel soft restart",
    0x40010006: "dynamic launch",
    0x00020001: "information",
    0x00020002: "boot counter",
    0x00020003: "transfer of control",
    0x00020004: "application returned",
    0x00020005: "BitLocker unlock",
    0x00020006: "event counter",
    0x00020007: "counter id",
    0x00020008: "memory overwrite cannot be cancelled",
    0x00020009: "application security version",
    0x0002000A: "security version chain",
    0x0002000B: "memory overwrite state",
    0x00040001: "boot debugging",
    BOOT_REVOCATIONS: "boot revocation list",
    0x00050001: "kernel debugger",
    0x00050002: "code integrity",
    0x00050003: "test signing",
    0x00050004: "data execution prevention",
    0x00050005: "safe mode",
    0x00050006: "Windows PE",
    0x00050007: "physical address extension",
    0x00050008: "device of the system",
    0x00050009: "system root",
    0x0005000A: "hypervisor launch",
    0x0005000B: "hypervisor path",
    0x0005000C: "hypervisor IOMMU policy",
    0x0005000D: "hypervisor debugging",
    0x0005000E: "driver load policy",
    INTEGRITY_POLICY: "code integrity policy",
    0x00050010: "hypervisor MMIO execution policy",
    0x00050011: "hypervisor MSR filter policy",
    0x00050012: "virtual secure mode launch",
    SYSTEM_REVOCATIONS: "system revocation list",
    0x00050014: "simultaneous multithreading",
    0x00050020: "virtual secure mode key",
    0x00050021: "flight signing",
    0x00050022: "page file encryption",
    0x00050023: "virtual secure mode signing key",
    0x00050024: "hibernation disabled",
    0x00050025: "memory dumps disabled",
    0x00050026: "memory dump encryption",
    0x00050027: "memory dump key",
    0x00050028: "isolated LSA",
    0x00050029: "secure boot policy",
    0x00050030: "hypervisor boot DMA protection",
    0x00060001: "no authority",
    AUTHORITY_KEY: "authority's key",
    FILE_PATH: "file",
    0x00070002: "image size",
    HASH_ALGORITHM: "hash algorithm",
    AUTHENTICODE: "Authenticode digest",
    0x00070005: "issuer",
    0x00070006: "authority's serial",
    0x00070007: "image base",
    PUBLISHER: "publisher",
    0x00070009: "authority's SHA-1",
    VALIDATED: "image validated",
    MODULE_VERSION: "module security version",
    0x80080001: "quote",
    0x80080002: "quote's signature",
    0x80080003: "attestation key id",
    0x80080004: "attestation key digest",
    0x00090001: "anti-malware key name",
    0x00090002: "anti-malware configuration",
    0x00090003: "anti-malware policy",
    0x00090004: "anti-malware measured",
    0x000A0001: "virtual secure mode required",
    0x000A0002: "secure boot required",
    0x000A0003: "IOMMU required",
    0x000A0004: "MMIO execution prevention required",
    0x000A0005: "MSR filtering required",
    0x000A0006: "mandatory enforcement",
    0x000A0007: "hypervisor code integrity policy",
    0x000A0008: "Microsoft's boot chain required",
    0x000A0009: "memory dump uses AME root",
    0x000A000A: "virtual secure mode without secrets",
    0x000B0001: "kernel soft restart signature",
    0x000C0001: "dynamic launch state",
    0x000C0002: "SMM isolation level",
    0x000C0003: "SMM digest",
    0x000C0004: "SMM signer",
    0x8F3B22EC: "Linux' start code: initial ramdisk",
    0x8F3B22ED: "Linux' start code: command line",
    0xF5BC582A: "systemd-boot: configuration",
    0x6C46F751: "systemd-stub: device tree add-on",
    0x49DFFE0F: "systemd-stub: initial ramdisk add-on",
    0xDAC08E1A: "systemd-stub: microcode add-on",
    0x3AED1B88: "systemd-stub: profile",
}
"""Types in words. Those of Windows are below 0xD0000000 in their groups; the last ones are of Linux' and systemd's start code."""


def tagged(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (type, data) of the tagged events that fill `data`. *Raises* `Malformed` ("eventdata-size", "eventdata-count")."""
    position = count = 0
    while position < len(data):
        count += 1
        if count > _MOST or position + _HEADER.size > len(data):
            raise Malformed("eventdata-count", "tagged events that do not end where they should", where=position)
        kind, size = _HEADER.unpack_from(data, position)
        start = position + _HEADER.size
        position = start + size
        if position > len(data):
            raise Malformed("eventdata-size", f"a tagged event of {size} bytes", where=start)
        yield kind, data[start:position]


def is_windows(kind: int) -> bool:
    """Return whether a type is one of Windows' groups, containers included."""
    return 1 <= (kind >> 16) & 0x0FFF <= 0x0F and kind >> 28 in (0, 4, 8, 0xC)
