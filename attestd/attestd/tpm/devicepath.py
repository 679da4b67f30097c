"""UEFI device paths as text, for people and for patterns.

Proves that the nodes fill the bytes exactly and that their number is bounded; there is no recursion. Nodes that are not
named here are shown as Path(type,subtype,hex), so that two different paths never read alike. UEFI 2.10, 10.
"""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from struct import Struct, error
from typing import Final

from attestd.protocol.limits import MAX_DEVICE_PATH_NODES
from attestd.tpm.errors import Malformed
from attestd.tpm.guid import guid_text

_HEADER: Final = Struct("<BBH")
_PARTITION: Final = Struct("<IQQ")
_END: Final = 0x7F
_END_ENTIRE: Final = 0xFF
_END_INSTANCE: Final = 0x01


def device_path_text(data: bytes) -> str:
    """Return nodes joined by "/", instances by ",". Empty bytes give an empty text.

    The text comes from firmware and may hold anything that UTF-16 can: whoever shows it escapes it.
    *Raises* `Malformed` ("structure-truncated", "structure-trailing", "eventdata-count", "eventdata-size").
    """
    parts: list[str] = []
    position = nodes = 0
    while position < len(data):
        nodes += 1
        if nodes > MAX_DEVICE_PATH_NODES:
            raise Malformed("eventdata-count", f"more than {MAX_DEVICE_PATH_NODES} device path nodes", where=position)
        kind, subtype, body, end = _node(data, position)
        if kind == _END and subtype == _END_ENTIRE:
            if end != len(data):
                raise Malformed("structure-trailing", f"{len(data) - end} bytes behind a device path", where=end)
            break
        if kind == _END and subtype == _END_INSTANCE:
            parts.append(",")
        else:
            parts.append(("" if not parts or parts[-1] == "," else "/") + _node_text(kind, subtype, body))
        position = end
    return "".join(parts)


def _node(data: bytes, position: int) -> tuple[int, int, bytes, int]:
    """Return type, subtype, body and end of the node at position. A length below its own header is refused."""
    try:
        kind, subtype, length = _HEADER.unpack_from(data, position)
    except error:
        raise Malformed("structure-truncated", "a device path node ends early", where=position) from None
    end = position + length
    if length < _HEADER.size:
        raise Malformed("eventdata-size", f"a device path node of {length} bytes", where=position)
    if end > len(data):
        raise Malformed("structure-truncated", f"a device path node of {length} bytes", where=position)
    return kind, subtype, data[position + _HEADER.size : end], end


def _node_text(kind: int, subtype: int, body: bytes) -> str:
    render = _TEXTS.get((kind, subtype))
    text = render(body) if render else None
    return text if text is not None else f"Path({kind},{subtype},{body.hex()})"


def _file_path(body: bytes) -> str | None:
    """UTF-16 up to its terminator. Text that is none falls back to hex."""
    if len(body) % 2:
        return None
    try:
        text = body.decode("utf-16-le")
    except UnicodeDecodeError:
        return None
    name, _, rest = text.partition("\0")
    return None if rest.strip("\0") else name


def _hard_drive(body: bytes) -> str | None:
    """A partition: number, start, size, signature, table format and signature type (10.3.5.1)."""
    if len(body) != 38:
        return None
    number, start, size = _PARTITION.unpack_from(body)
    signature, kind = body[20:36], body[37]
    if kind == 2:
        label = f"GPT,{guid_text(signature)}"
    elif kind == 1:
        label = f"MBR,0x{int.from_bytes(signature[:4], 'little'):08x}"
    else:
        label = f"{kind},{signature.hex()}"
    return f"HD({number},{label},0x{start:x},0x{size:x})"


def _guid(name: str) -> Callable[[bytes], str | None]:
    return lambda body: f"{name}({guid_text(body)})" if len(body) == 16 else None


def _vendor(name: str) -> Callable[[bytes], str | None]:
    def render(body: bytes) -> str | None:
        if len(body) < 16:
            return None
        data = f",{body[16:].hex()}" if body[16:] else ""
        return f"{name}({guid_text(body[:16])}{data})"

    return render


def _numbers(name: str, layout: str) -> Callable[[bytes], str | None]:
    struct = Struct(layout)

    def render(body: bytes) -> str | None:
        if len(body) != struct.size:
            return None
        return f"{name}({','.join(f'0x{number:x}' for number in struct.unpack(body))})"

    return render


def _pci(body: bytes) -> str | None:
    return f"Pci(0x{body[1]:x},0x{body[0]:x})" if len(body) == 2 else None


def _acpi(body: bytes) -> str | None:
    """PNP0A03 and PNP0A08 are PCI roots (10.3.3)."""
    if len(body) != 8:
        return None
    hid, uid = Struct("<II").unpack(body)
    names = {0x0A0341D0: "PciRoot", 0x0A0841D0: "PcieRoot"}
    return f"{names[hid]}(0x{uid:x})" if hid in names else f"Acpi(0x{hid:x},0x{uid:x})"


def _mac(body: bytes) -> str | None:
    return f"MAC({body[:6].hex()},0x{body[32]:x})" if len(body) == 33 else None


def _uri(body: bytes) -> str | None:
    return f"Uri({body.decode('ascii')})" if body.isascii() else None


def _ipv4(body: bytes) -> str | None:
    """The remote and the local end, their ports, the protocol, and how the address came about (10.3.4.11)."""
    if len(body) not in (15, 23):
        return None
    local, remote, near, far, protocol, static = Struct("<4s4sHHH?").unpack_from(body)
    ends = f"{IPv4Address(remote)}:{far},{protocol},{'static' if static else 'dhcp'},{IPv4Address(local)}:{near}"
    more = f",{IPv4Address(body[15:19])},{IPv4Address(body[19:23])}" if len(body) == 23 else ""
    return f"IPv4({ends}{more})"


def _ipv6(body: bytes) -> str | None:
    """The same for the newer protocol, with the origin as a number and the prefix (10.3.4.12)."""
    if len(body) not in (39, 56):
        return None
    local, remote, near, far, protocol, origin = Struct("<16s16sHHHB").unpack_from(body)
    ends = f"[{IPv6Address(remote)}]:{far},{protocol},{origin},[{IPv6Address(local)}]:{near}"
    more = f",{body[39]},{IPv6Address(body[40:56])}" if len(body) == 56 else ""
    return f"IPv6({ends}{more})"


def _offset(body: bytes) -> str | None:
    """A range in a firmware volume's file; some firmware leaves out the reserved field (10.3.5.8)."""
    fields = (0, *Struct("<QQ").unpack(body)) if len(body) == 16 else None
    if fields is None:
        return _numbers("Offset", "<IQQ")(body)
    return f"Offset({','.join(f'0x{number:x}' for number in fields[1:])})"


def _ram_disk(body: bytes) -> str | None:
    if len(body) != 34:
        return None
    start, end = Struct("<QQ").unpack_from(body)
    return f"RamDisk(0x{start:x},0x{end:x},{int.from_bytes(body[32:], 'little')},{guid_text(body[16:32])})"


def _bios_boot(body: bytes) -> str | None:
    """A device that a BIOS would boot: its type, its status, what it is called (10.3.6)."""
    if len(body) < 4:
        return None
    kind, status = Struct("<HH").unpack_from(body)
    name, _, rest = body[4:].partition(b"\0")
    if rest.strip(b"\0") or not name.isascii() or not name.decode("ascii").isprintable():
        return None
    return f"BBS(0x{kind:x},0x{status:x},{name.decode('ascii')})"


_TEXTS: Final[dict[tuple[int, int], Callable[[bytes], str | None]]] = {
    (1, 1): _pci,
    (1, 3): _numbers("MemoryMapped", "<IQQ"),
    (1, 4): _vendor("VenHw"),
    (1, 5): _numbers("Ctrl", "<I"),
    (2, 1): _acpi,
    (2, 3): _numbers("AcpiAdr", "<I"),
    (3, 1): _numbers("Ata", "<BBH"),
    (3, 2): _numbers("Scsi", "<HH"),
    (3, 5): _numbers("USB", "<BB"),
    (3, 10): _vendor("VenMsg"),
    (3, 11): _mac,
    (3, 12): _ipv4,
    (3, 13): _ipv6,
    (3, 15): _numbers("UsbClass", "<HHBBB"),
    (3, 17): _numbers("Unit", "<B"),
    (3, 18): _numbers("Sata", "<HHH"),
    (3, 20): _numbers("Vlan", "<H"),
    (3, 23): _numbers("NVMe", "<IQ"),
    (3, 24): _uri,
    (3, 25): _numbers("UFS", "<BB"),
    (3, 26): _numbers("SD", "<B"),
    (3, 29): _numbers("eMMC", "<B"),
    (4, 1): _hard_drive,
    (4, 2): _numbers("CDROM", "<IQQ"),
    (4, 3): _vendor("VenMedia"),
    (4, 4): _file_path,
    (4, 6): _guid("FvFile"),
    (4, 7): _guid("Fv"),
    (4, 8): _offset,
    (4, 9): _ram_disk,
    (5, 1): _bios_boot,
}
