"""Two boots of Windows, and two lists of what may not boot, in words."""

from hashlib import sha256
from struct import pack
from uuid import UUID

from attestd.inspection.difference import Boot, inspect_difference
from attestd.tpm import wbcl
from attestd.tpm.eventtypes import EventType as T
from event_logs import SECURITY, event, honest_boot, make_log, variable

SHA256_LIST = UUID("c1c41626-504c-4092-aca9-41f936934328").bytes_le


def tag(kind: int, body: bytes) -> bytes:
    return pack("<II", kind, len(body)) + body


def module(digest: bytes, *, path: str = "") -> bytes:
    named = tag(wbcl.FILE_PATH, f"{path}\0".encode("utf-16-le")) if path else b""
    return tag(wbcl.TRUST_BOUNDARY, tag(wbcl.MODULE, named + tag(wbcl.AUTHENTICODE, digest)))


def setting(value: bytes) -> bytes:
    return tag(wbcl.TRUST_BOUNDARY, tag(0x00050003, value) + tag(0x00040001, b"\0"))


def changes(*sides):
    before, after = (Boot(make_log([*honest_boot(), *made]), {}) for made in sides)
    return [(one.text, one.pcrs) for one in inspect_difference(before, after).changes]


def test_a_setting_that_was_switched_is_the_one_change():
    found = changes([event(13, T.EVENT_TAG, setting(b"\0"))], [event(13, T.EVENT_TAG, setting(b"\x01"))])

    assert found == [("windows setting changed: `on` added, `off` removed", (13,))]


def test_an_image_with_another_content_is_told_by_its_path_in_both_registers():
    def boot(digest, path):
        return [
            event(12, T.EVENT_TAG, module(digest)),
            event(13, T.EVENT_TAG, module(digest, path=path)),
        ]

    ((text, pcrs),) = changes(
        boot(b"\x11" * 32, "\\Windows\\ntoskrnl.exe"), boot(b"\x22" * 32, "\\WINDOWS\\ntoskrnl.exe")
    )

    assert (text.startswith("windows module changed"), "\\WINDOWS\\ntoskrnl.exe" in text, pcrs) == (
        True,
        True,
        (12, 13),
    )


def test_a_longer_list_of_what_may_not_boot_is_told_in_entries():
    def dbx(*words):
        digests = [sha256(word).digest() for word in words]
        lists = SHA256_LIST + pack("<III", 28 + 48 * len(digests), 0, 48) + b"".join(bytes(16) + one for one in digests)
        return [event(7, T.EFI_VARIABLE_DRIVER_CONFIG, variable("dbx", lists, guid=SECURITY))]

    ((text, pcrs),) = changes(dbx(b"a", b"b"), dbx(b"b", b"c", b"d"))

    assert (text, pcrs) == ("secure boot dbx changed: 2 entries added, 1 removed, 3 now", (7,))
