"""What a runtime list proves once a quote of PCR 10 is beside it."""

from hashlib import sha1, sha256
from struct import pack

import pytest

from attestd.evidence.runtime import OPAQUE, runtime_facts
from attestd.protocol.reasons import Reason
from attestd.tpm.ima import parse_ima

BOOT = {index: bytes((index,)) * 32 for index in range(10)}
AGGREGATE = sha256(b"".join(BOOT[index] for index in range(10))).digest()


def ng(path, digest, *, algorithm=b"sha256"):
    """Return the template data of ima-ng."""
    field = algorithm + b":\0" + digest
    return pack("<I", len(field)) + field + pack("<I", len(path) + 1) + path + b"\0"


def entry(data, *, template=b"ima-ng", pcr=10, digest=None):
    """Return one entry in the kernel's binary form; its SHA-1 is honest unless given."""
    stated = sha1(data).digest() if digest is None else digest
    return pack("<I", pcr) + stated + pack("<I", len(template)) + template + pack("<I", len(data)) + data


def file(path, content=b"content"):
    return ng(path, sha256(content).digest())


def extended(*datas, padded=False, start=bytes(32)):
    """Return PCR 10 after these template data; None stands for a violation."""
    value = start
    for data in datas:
        if data is None:
            digest = b"\xff" * 20 + bytes(12) if padded else b"\xff" * 32
        else:
            digest = sha1(data).digest() + bytes(12) if padded else sha256(data).digest()
        value = sha256(value + digest).digest()
    return value


FIRST = ng(b"boot_aggregate", AGGREGATE)
FILES = [file(b"/init"), file(b"/bin/sh"), file(b"/etc/passwd")]


def facts(entries, value, *, offset=0, start=None, pcrs=BOOT):
    listed = parse_ima(b"".join(entries))
    return runtime_facts(listed, bank="sha256", pcrs={**pcrs, 10: value}, offset=offset, start=start)


def whole(*datas):
    return [entry(data) for data in datas]


def test_a_list_that_leads_to_the_quoted_value_is_explained():
    found = facts(whole(FIRST, *FILES), extended(FIRST, *FILES))
    assert found.findings == ()
    assert (found.count, found.convention, found.boot_aggregate) == (4, "bank", "matches")
    assert [item.path for item in found.entries] == [b"/init", b"/bin/sh", b"/etc/passwd"]


def test_entries_behind_the_quoted_value_are_not_looked_at():
    found = facts(whole(FIRST, *FILES), extended(FIRST, FILES[0]))
    assert (found.count, found.unread) == (2, 2)
    assert [item.path for item in found.entries] == [b"/init"]
    assert found.findings == ()


CLOSED = {index: sha256(value + sha256(b"os-separator").digest()).digest() for index, value in BOOT.items()}


def test_the_aggregate_is_over_what_the_registers_held_when_the_kernel_made_it():
    listed = parse_ima(b"".join(whole(FIRST, *FILES)))
    pcrs = {**CLOSED, 10: extended(FIRST, *FILES)}
    found = [runtime_facts(listed, bank="sha256", pcrs=pcrs, handed_over=before) for before in (BOOT, {})]
    assert [one.boot_aggregate for one in found] == ["matches", "differs"]


def test_the_convention_of_older_kernels_is_recognised():
    found = facts(whole(FIRST, *FILES), extended(FIRST, *FILES, padded=True))
    assert (found.convention, found.count) == ("padded", 4)


def test_a_list_is_continued_from_what_was_proved_before():
    start = extended(FIRST, FILES[0])
    value = extended(*FILES[1:], start=start)
    found = facts(whole(*FILES[1:]), value, offset=2, start=start)
    assert (found.offset, found.count, found.value) == (2, 4, value)
    assert found.boot_aggregate == "earlier"
    assert [item.number for item in found.entries] == [2, 3]


def test_no_new_entries_continue_an_unchanged_register():
    start = extended(FIRST)
    found = facts([], start, offset=1, start=start)
    assert (found.count, found.entries, found.findings) == (1, (), ())


def test_the_older_aggregate_over_eight_registers_is_accepted():
    data = ng(b"boot_aggregate", sha256(b"".join(BOOT[index] for index in range(8))).digest())
    assert facts(whole(data), extended(data)).boot_aggregate == "matches"


def test_an_aggregate_over_other_registers_differs():
    data = ng(b"boot_aggregate", bytes(32))
    assert facts(whole(data), extended(data)).boot_aggregate == "differs"


def test_an_aggregate_of_another_bank_is_unverified():
    data = ng(b"boot_aggregate", bytes(20), algorithm=b"sha1")
    assert facts(whole(data), extended(data)).boot_aggregate == "unverified"


def test_an_aggregate_over_registers_that_were_not_quoted_is_unverified():
    assert facts(whole(FIRST), extended(FIRST), pcrs={0: BOOT[0]}).boot_aggregate == "unverified"


def test_a_list_that_does_not_start_with_an_aggregate_lacks_it():
    assert facts(whole(*FILES), extended(*FILES)).boot_aggregate == "absent"


@pytest.mark.parametrize("algorithm", [b"sha256", b"sha1", b"sha512"])
@pytest.mark.parametrize("place", ["behind the first", "in a list that goes on"])
def test_e08_a_later_entry_with_the_aggregates_name_is_a_file(algorithm, place):
    other = ng(b"boot_aggregate", bytes({b"sha1": 20, b"sha512": 64}.get(algorithm, 32)), algorithm=algorithm)
    if place == "behind the first":
        found = facts(whole(FIRST, other), extended(FIRST, other))
        assert found.boot_aggregate == "matches"
    else:
        start = extended(FIRST)
        found = facts(whole(other), extended(other, start=start), offset=1, start=start)
        assert found.boot_aggregate == "earlier"
    assert [(item.number, item.path) for item in found.entries] == [(1, b"boot_aggregate")]


def test_e08_an_entry_of_another_register_is_no_aggregate():
    found = facts([entry(FIRST, pcr=11), entry(FILES[0])], extended(FILES[0]))
    assert found.boot_aggregate == "absent"


def test_an_aggregate_is_not_a_file():
    assert facts(whole(FIRST), extended(FIRST)).entries == ()


def test_violations_are_counted_and_say_nothing_of_a_file():
    entries = [entry(FIRST), entry(file(b"/var/log/x"), digest=bytes(20))]
    found = facts(entries, extended(FIRST, None))
    assert (found.violations, found.entries) == (1, ())


@pytest.mark.parametrize(
    "lie",
    [
        whole(FIRST, file(b"/init", b"evil"), *FILES[1:]),
        whole(FIRST, FILES[1], FILES[0], FILES[2]),
        whole(FIRST, *FILES[:-1]),
        whole(*FILES),
        whole(FIRST, *FILES, *FILES)[1:],
        [],
    ],
    ids=["changed", "reordered", "truncated", "first-dropped", "shifted", "empty"],
)
def test_e08_a_list_that_never_leads_to_the_quoted_value_is_unexplained(lie):
    found = facts(lie, extended(FIRST, *FILES))
    assert [finding.code for finding in found.findings] == [Reason.RUNTIME_UNEXPLAINED]
    assert found.entries == ()
    assert (found.count, found.unread) == (0, len(lie))


def test_e08_an_entry_hidden_as_a_violation_is_unexplained():
    entries = [entry(FIRST), entry(FILES[0], digest=bytes(20))]
    assert [f.code for f in facts(entries, extended(FIRST, FILES[0])).findings] == [Reason.RUNTIME_UNEXPLAINED]


def test_e08_a_list_from_a_wrong_offset_is_unexplained():
    start = extended(FIRST, FILES[0])
    found = facts(whole(FILES[2]), extended(*FILES[1:], start=start), offset=2, start=start)
    assert [finding.code for finding in found.findings] == [Reason.RUNTIME_UNEXPLAINED]
    assert (found.count, found.value) == (2, start)


def test_e08_a_template_hash_that_is_not_its_data_s_is_found_where_it_is_what_was_extended():
    evil = entry(file(b"/bin/sh", b"another"), digest=sha1(FILES[1]).digest())
    found = facts([entry(FIRST), evil], extended(FIRST, FILES[1], padded=True))
    assert [(f.code, f.event) for f in found.findings] == [(Reason.RUNTIME_UNEXPLAINED, 1)]


def test_a_template_hash_that_nobody_extended_does_not_matter():
    found = facts([entry(FIRST, digest=b"\x01" * 20)], extended(FIRST))
    assert found.findings == ()


@pytest.mark.parametrize("template", [b"n-ng|d-ng", b"d-ng|sig|n-ng", b"made-up"])
def test_e08_a_template_that_lets_its_author_choose_the_path_is_opaque(template):
    signature = b"/tmp/excluded\0"
    data = ng(b"/tmp/excluded", bytes(32)) if template == b"made-up" else file(b"/evil")
    if template == b"d-ng|sig|n-ng":
        data = file(b"/evil") + pack("<I", len(signature)) + signature
    if template == b"n-ng|d-ng":
        digest = b"sha256:\0" + bytes(32)
        data = pack("<I", 6) + b"/evil\0" + pack("<I", len(digest)) + digest
    found = facts([entry(FIRST), entry(data, template=template)], extended(FIRST, data))
    assert [item.algorithm for item in found.entries] == [OPAQUE]
    assert b"/" not in found.entries[0].path


def test_entries_of_another_register_are_not_proved_and_left_out():
    found = facts([entry(FIRST), entry(FILES[0], pcr=11), entry(FILES[1])], extended(FIRST, FILES[1]))
    assert [item.path for item in found.entries] == [b"/bin/sh"]


def test_e11_a_path_stays_bytes():
    data = file(b"/tmp/\xff\x1b[31m\n")
    assert facts(whole(FIRST, data), extended(FIRST, data)).entries[0].path == b"/tmp/\xff\x1b[31m\n"
