import hashlib
import time
from collections import deque

import pytest

from attestd.protocol.limits import MAX_IMA_ENTRIES, MAX_IMA_LIST, MAX_IMA_TEMPLATE
from attestd.tpm import ima
from attestd.tpm.errors import Malformed
from attestd.tpm.ima import parse_ima, prefix_length, replay, template_hash_mismatches
from tpm_structures import ima_entry, ima_raw

ZEROS = bytes(20)


def refused(data: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        parse_ima(data)
    return caught.value.code


def field(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


def test_a_binary_entry_is_read():
    (entry,) = parse_ima(ima_entry(b"/usr/bin/kmod")).entries

    assert (entry.index, entry.pcr, entry.template, entry.path) == (0, 10, "ima-ng", b"/usr/bin/kmod")
    assert entry.file_digest == ("sha256", b"\x11" * 32)
    assert entry.template_digest == hashlib.sha1(entry.data).digest()
    assert entry.violation is False


def test_an_empty_list_has_no_entries():
    assert parse_ima(b"").entries == ()


@pytest.mark.parametrize(
    ("template", "extra"),
    [
        (b"ima-ng", ()),
        (b"ima-sig", (b"\x03\x02signature",)),
        (b"ima-buf", (b"buffer",)),
        (b"ima-modsig", (b"", b"sha256:\0" + bytes(32), b"pkcs7")),
        (b"evm-sig", (b"evm", b"names", b"lengths", b"values", bytes(4), bytes(4), bytes(2))),
        (b"d-ng|n-ng|sig", (b"sig",)),
    ],
)
def test_templates_with_a_digest_and_a_path_are_read(template, extra):
    (entry,) = parse_ima(ima_entry(template=template, extra=extra)).entries

    assert (entry.template, entry.path, entry.file_digest) == (template.decode(), b"/bin/sh", ("sha256", b"\x11" * 32))
    assert entry.fields[2:] == extra
    assert template_hash_mismatches(ima.RuntimeList((entry,))) == ()


@pytest.mark.parametrize(
    ("template", "algorithm", "name"),
    [
        (b"ima-ngv2", b"ima:sha256", "sha256"),
        (b"ima-ngv2", b"verity:sha256", "verity:sha256"),
        (b"ima-ng", b"sha512-256", "sha512-256"),
    ],
)
def test_a_digest_keeps_the_name_of_what_it_is_a_digest_of(template, algorithm, name):
    (entry,) = parse_ima(ima_entry(template=template, algorithm=algorithm)).entries

    assert entry.file_digest == (name, b"\x11" * 32)


def test_the_legacy_template_has_a_layout_and_a_hash_of_its_own():
    digest, name = b"\x22" * 20, b"/bin/sh"
    stated = hashlib.sha1(digest + name.ljust(256, b"\0")).digest()
    data = (10).to_bytes(4, "little") + stated + field(b"ima") + digest + field(name)

    runtime = parse_ima(data)

    assert runtime.entries[0].path == name
    assert runtime.entries[0].file_digest == ("sha1", digest)
    assert template_hash_mismatches(runtime) == ()


def test_an_unknown_template_is_opaque_but_counts():
    runtime = parse_ima(ima_raw(b"\xff\xfe anything", template=b"ima-future"))

    assert (runtime.entries[0].path, runtime.entries[0].file_digest, runtime.entries[0].fields) == (None, None, ())
    assert template_hash_mismatches(runtime) == ()
    assert len(set(replay(runtime, "sha256", padded=False))) == 2


@pytest.mark.parametrize("path", [b"/tmp/\xff\xfe", b"/tmp/a\n10 00 ima-ng x /bin/sh", b"/tmp/\x1b[2J", b"<script>"])
def test_e11_a_path_is_kept_as_its_bytes(path):
    assert parse_ima(ima_entry(path)).entries[0].path == path


def test_e08_a_template_hash_that_does_not_match_its_data_is_told():
    runtime = parse_ima(ima_entry() + ima_entry(b"/bin/ls", digest=b"\x01" * 20) + ima_entry(b"/bin/cat"))

    assert template_hash_mismatches(runtime) == (1,)


def test_e08_a_violation_vouches_for_no_file():
    (entry,) = parse_ima(ima_entry(b"/etc/passwd", digest=ZEROS)).entries

    assert entry.violation is True
    assert (entry.path, entry.file_digest) == (b"/etc/passwd", None)
    assert template_hash_mismatches(ima.RuntimeList((entry,))) == ()


def value_after(*digests: bytes, bank: str = "sha256") -> bytes:
    value = bytes(hashlib.new(bank).digest_size)
    for digest in digests:
        value = hashlib.new(bank, value + digest).digest()
    return value


def test_newer_kernels_extend_each_bank_with_its_own_hash():
    runtime = parse_ima(ima_entry() + ima_entry(b"/bin/ls"))
    one, two = (hashlib.sha256(entry.data).digest() for entry in runtime.entries)

    assert list(replay(runtime, "sha256", padded=False)) == [bytes(32), value_after(one), value_after(one, two)]


def test_older_kernels_extend_the_sha1_filled_up_with_zeros():
    runtime = parse_ima(ima_entry())

    expected = value_after(hashlib.sha1(runtime.entries[0].data).digest() + bytes(12))

    assert list(replay(runtime, "sha256", padded=True))[-1] == expected


@pytest.mark.parametrize("padded", [True, False])
def test_the_sha1_bank_is_the_same_under_both_conventions(padded):
    runtime = parse_ima(ima_entry() + ima_entry(digest=ZEROS))

    expected = value_after(runtime.entries[0].template_digest, b"\xff" * 20, bank="sha1")

    assert list(replay(runtime, "sha1", padded=padded))[-1] == expected


def test_a_violation_extends_ones():
    runtime = parse_ima(ima_entry(digest=ZEROS))

    assert list(replay(runtime, "sha256", padded=False))[-1] == value_after(b"\xff" * 32)
    assert list(replay(runtime, "sha256", padded=True))[-1] == value_after(b"\xff" * 20 + bytes(12))


def test_a_kernel_without_a_banks_algorithm_pads_and_extends_ones_of_the_whole_size():
    runtime = parse_ima(ima_entry() + ima_entry(digest=ZEROS))

    expected = value_after(runtime.entries[0].template_digest + bytes(28), b"\xff" * 48, bank="sha384")

    assert list(replay(runtime, "sha384", padded=True, whole_ones=True))[-1] == expected
    assert prefix_length(runtime, "sha384", expected, padded=True) == 2


def test_entries_of_another_register_leave_the_value_alone():
    runtime = parse_ima(ima_entry() + ima_entry(b"/bin/ls", pcr=11))
    values = list(replay(runtime, "sha256", padded=False))

    assert values[1] == values[2]
    assert list(replay(runtime, "sha256", padded=False, pcr=11))[1] == bytes(32)


def test_e08_the_prefix_that_a_quote_explains_is_found():
    runtime = parse_ima(b"".join(ima_entry(b"/%d" % number) for number in range(5)))
    values = list(replay(runtime, "sha384", padded=False))

    assert [prefix_length(runtime, "sha384", value, padded=False) for value in values] == [0, 1, 2, 3, 4, 5]
    assert prefix_length(runtime, "sha384", b"\x01" * 48, padded=False) is None


def test_e08_a_list_in_another_order_explains_nothing():
    one, two = ima_entry(b"/a"), ima_entry(b"/b")
    target = list(replay(parse_ima(one + two), "sha256", padded=False))[-1]

    assert prefix_length(parse_ima(two + one), "sha256", target, padded=False) is None


def test_a_later_part_of_a_list_continues_from_the_value_before_it():
    one, two = ima_entry(b"/a"), ima_entry(b"/b")
    whole = list(replay(parse_ima(one + two), "sha256", padded=False))

    part = list(replay(parse_ima(two), "sha256", padded=False, start=whole[1]))

    assert part == whole[1:]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(ima_entry(pcr=24), "ima-pcr-index", id="pcr-24"),
        pytest.param(ima_entry(pcr=0xFF00), "ima-pcr-index", id="pcr-huge"),
        pytest.param(ima_raw(b"", template=b""), "ima-template-name", id="no-name"),
        pytest.param(ima_raw(b"", template=b"x" * 256), "ima-template-name", id="long-name"),
        pytest.param(ima_raw(b"", template=b"ima\x1b"), "ima-template-name", id="control-name"),
        pytest.param(ima_raw(b"", template=b"im\xe4"), "ima-template-name", id="non-ascii-name"),
        pytest.param(ima_raw(bytes(MAX_IMA_TEMPLATE + 1)), "ima-template-size", id="long-data"),
        pytest.param(ima_entry()[:-1], "structure-truncated", id="cut-data"),
        pytest.param(ima_entry()[:20], "structure-truncated", id="cut-header"),
        pytest.param(ima_entry() + bytes(4), "structure-truncated", id="trailing"),
        pytest.param(ima_raw(field(b"sha256:\0" + bytes(32))), "ima-field", id="one-field"),
        pytest.param(ima_raw(field(b"sha256:\0" + bytes(32)) + field(b"/a\0") + b"x"), "ima-field", id="extra-byte"),
        pytest.param(ima_raw(b"\xff\xff\xff\xff" + b"x"), "ima-field", id="huge-field"),
        pytest.param(ima_entry(algorithm=b""), "ima-field", id="no-algorithm"),
        pytest.param(ima_entry(algorithm=b"\xff"), "ima-field", id="binary-algorithm"),
        pytest.param(ima_raw(field(b"sha256" + bytes(32)) + field(b"/a\0")), "ima-field", id="no-colon"),
        pytest.param(ima_raw(field(b"sha256:\0" + bytes(32)) + field(b"/a")), "ima-field", id="no-terminator"),
        pytest.param(ima_entry(b"/a\0/b"), "ima-field", id="two-terminators"),
    ],
)
def test_e08_a_damaged_entry_is_refused(data, code):
    assert refused(data) == code


def test_e08_a_digest_of_another_size_than_its_algorithms_vouches_for_no_file():
    (entry,) = parse_ima(ima_entry(file_digest=bytes(31))).entries

    assert (entry.file_digest, entry.violation, entry.path) == (None, False, b"/bin/sh")


def of_bank(bank: str, *paths: bytes, order: str = "little") -> bytes:
    """Return a list as kernels since 6.10 show it for one bank, in either byte order."""

    def number(value: int) -> bytes:
        return value.to_bytes(4, order)

    entries = b""
    for path in paths:
        fields = (b"sha256:\0" + b"\x11" * 32, path + b"\0")
        data = b"".join(number(len(one)) + one for one in fields)
        entries += number(10) + hashlib.new(bank, data).digest() + number(6) + b"ima-ng" + number(len(data)) + data
    return entries


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("bank", ["sha1", "sha256", "sha384", "sha512"])
def test_a_list_of_one_bank_and_of_either_byte_order_is_read_for_people(bank, order):
    runtime, fault = ima.read_ima(of_bank(bank, b"/a", b"/b", order=order), most=MAX_IMA_LIST)

    assert (fault, runtime.bank, [entry.path for entry in runtime.entries]) == (None, bank, [b"/a", b"/b"])
    assert template_hash_mismatches(runtime) == ()


@pytest.mark.parametrize("cut", [1, 30, 50, 80])
def test_e08_a_cut_list_of_one_bank_is_read_up_to_the_cut(cut):
    runtime, fault = ima.read_ima(of_bank("sha384", b"/a", b"/b")[:-cut], most=MAX_IMA_LIST)

    assert ([entry.path for entry in runtime.entries], fault.code) == ([b"/a"], "structure-truncated")


@pytest.mark.parametrize(("bank", "order"), [("sha256", "little"), ("sha1", "big"), ("sha384", "big")])
def test_e08_a_list_of_one_bank_or_of_another_byte_order_is_none_that_a_device_sends(bank, order):
    assert refused(of_bank(bank, b"/a", order=order)) == "ima-form"


def test_a_text_of_one_bank_is_read_where_its_hashes_are_that_banks():
    data = ima.read_ima(of_bank("sha256", b"/a"), most=MAX_IMA_LIST)[0].entries[0].data
    digest = hashlib.sha256(data).hexdigest()

    for stated, count in ((digest, 1), ("22" * 32, 0)):
        text = f"10 {stated} ima-ng sha256:{'11' * 32} /a\n".encode()
        runtime, fault = ima.read_ima(text, most=MAX_IMA_LIST)
        assert (len(runtime.entries), fault is None) == (count, count == 1)


def test_lines_that_are_none_are_counted_and_the_others_read():
    text = b"# a comment\n\n" + line("/a") + b"words\n" + line("/b") + b"   \n"

    runtime, fault = ima.read_ima(text, most=MAX_IMA_LIST)

    assert ([entry.path for entry in runtime.entries], runtime.unreadable, fault.code) == (
        [b"/a", b"/b"],
        1,
        "ima-line",
    )


def test_a_text_with_the_line_ends_of_another_system_is_the_same_list():
    assert parse_ima(line().replace(b"\n", b"\r\n")) == parse_ima(line())


def test_e06_a_list_beyond_the_bound_is_refused():
    assert refused(bytes(MAX_IMA_LIST + 1)) == "ima-size"


def test_e06_more_entries_than_the_bound_are_refused():
    tiny = ima_raw(b"", template=b"x")

    assert refused(tiny * (MAX_IMA_ENTRIES + 1)) == "ima-entry-count"


def line(path: str = "/bin/sh", *, template: str = "ima-ng", tail: str = "") -> bytes:
    (entry,) = parse_ima(ima_entry(path.encode())).entries
    return f"10 {entry.template_digest.hex()} {template} sha256:{'11' * 32} {path}{tail}\n".encode()


@pytest.mark.parametrize("path", ["/bin/sh", "/a b/c d", "boot_aggregate"])
def test_the_ascii_form_is_the_same_list(path):
    assert parse_ima(line(path)) == parse_ima(ima_entry(path.encode()))


def owned(attributes: bytes, uid: bytes, gid: bytes, mode: bytes, *, path: bytes = b"/bin/sh") -> bytes:
    """Return an entry of the template "evm-sig": no signature, the attributes' names, no lengths and values, whose file."""
    return ima_entry(path, template=b"evm-sig", extra=(b"", attributes, b"", b"", uid, gid, mode))


@pytest.mark.parametrize(
    ("binary", "tail"),
    [
        pytest.param(owned(b"", b"\x70\x11\1\0", b"\x64\0\0\0", b"\xed\x81"), "     70000 100 33261", id="numbers"),
        pytest.param(
            owned(b"security.selinux|security.ima\0", bytes(4), bytes(4), b"\xa4\x81"),
            "  security.selinux|security.ima   0 0 33188",
            id="attributes",
        ),
        pytest.param(owned(b"", b"", b"", b"", path=b"boot_aggregate"), "       ", id="no-file"),
    ],
)
def test_the_ascii_form_has_numbers_and_names_of_attributes_as_text(binary, tail):
    (entry,) = parse_ima(binary).entries
    text = f"10 {entry.template_digest.hex()} evm-sig sha256:{'11' * 32} {entry.path.decode()}{tail}\n"

    assert parse_ima(text.encode()) == parse_ima(binary)


@pytest.mark.parametrize("number", ["x", "-1", "4294967296", "9" * 5000, "\u0663"])
def test_an_owner_that_is_no_number_is_refused(number):
    text = f"10 {'11' * 20} evm-sig sha256:{'11' * 32} /bin/sh     {number} 0 33188\n"

    assert refused(text.encode()) == "ima-field"


@pytest.mark.parametrize(
    ("tail", "signature"),
    [(" 0302abcd", b"\x03\x02\xab\xcd"), (" ", b""), ("", b"")],
    ids=["signed", "blank", "stripped"],
)
def test_the_ascii_form_of_a_signed_entry_is_read(tail, signature):
    (entry,) = parse_ima(line(template="ima-sig", tail=tail)).entries

    assert (entry.path, entry.fields[2]) == (b"/bin/sh", signature)


def test_the_ascii_form_of_the_legacy_template_is_read():
    stated = hashlib.sha1(b"\x22" * 20 + b"/bin/sh".ljust(256, b"\0")).hexdigest()

    runtime = parse_ima(f"10 {stated} ima {'22' * 20} /bin/sh\n".encode())

    assert runtime.entries[0].file_digest == ("sha1", b"\x22" * 20)
    assert template_hash_mismatches(runtime) == ()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"hello world\n", "ima-line", id="words"),
        pytest.param(b"10 " + b"11" * 20 + b" ima-ng\n", "ima-line", id="short"),
        pytest.param(b"10 " + b"11" * 32 + b" ima-ng sha256:" + b"11" * 32 + b" /a\n", "ima-line", id="sha256"),
        pytest.param(b"10 " + b"1x" * 20 + b" ima-ng sha256:" + b"11" * 32 + b" /a\n", "ima-field", id="not-hex"),
        pytest.param(b"24 " + b"11" * 20 + b" ima-ng sha256:" + b"11" * 32 + b" /a\n", "ima-pcr-index", id="pcr"),
        pytest.param(b"-1 " + b"11" * 20 + b" ima-ng sha256:" + b"11" * 32 + b" /a\n", "ima-line", id="minus"),
        pytest.param(b"10 " + b"11" * 20 + b" ima-new a b\n", "ima-template-name", id="opaque"),
        pytest.param(b"10 " + b"11" * 20 + b" ima-ng sha256" + b"11" * 32 + b" /a\n", "ima-field", id="no-colon"),
        pytest.param(b"10 " + b"11" * 20 + b" ima-ng sha256:" + b"11" * 32 + b" /a\n# x\ny\n", "ima-line", id="last"),
        pytest.param(b"10 " + b"11" * 20 + b" ima-modsig a:11 /b\n", "ima-line", id="fields"),
    ],
)
def test_an_ascii_line_that_is_no_entry_is_refused(data, code):
    assert refused(data) == code


@pytest.mark.parametrize("path", ["/tmp/a\nb", "/tmp/a\nb\nc d", "/tmp/a\n10 x"])
def test_e11_a_path_with_line_feeds_is_one_path_in_the_ascii_form_where_the_hash_proves_it(path):
    assert parse_ima(line("/bin/ls") + line(path) + line()) == parse_ima(
        ima_entry(b"/bin/ls") + ima_entry(path.encode()) + ima_entry()
    )


def test_e11_what_follows_a_line_feed_is_nobodys_path_without_the_hash():
    forged = line("/tmp/a\nb").replace(b"\nb", b"\nc")

    assert refused(forged) == "ima-line"
    assert refused(b"a note\n" + line("/tmp/a\nb")) == "ima-line"


def test_e11_a_path_whose_second_line_is_an_entry_leaves_the_first_with_a_wrong_hash():
    runtime = parse_ima(line("/tmp/a\n" + line("/bin/evil").decode().rstrip("\n")))

    assert [entry.path for entry in runtime.entries] == [b"/tmp/a", b"/bin/evil"]
    assert template_hash_mismatches(runtime) == (0,)


def test_a_long_list_of_what_is_no_line_costs_little():
    began = time.process_time()

    assert refused(line("/tmp/a") + b"x" * 4_000 + b"\n" + b"y z w v\n" * 200_000) == "ima-line"

    assert time.process_time() - began < 1


def test_a_hundred_thousand_entries_are_read_checked_and_replayed_in_two_seconds():
    data = b"".join(ima_entry(b"/usr/lib/x86/%06d.so" % number) for number in range(50_000))
    start = time.process_time()

    runtime = parse_ima(data)
    mismatches = template_hash_mismatches(runtime)
    (last,) = deque(replay(runtime, "sha256", padded=False), maxlen=1)

    # Half of the entries in half of the time: the bound on bytes does not let 100,000 with such paths into one message.
    assert time.process_time() - start < 1.0
    assert (mismatches, len(last)) == ((), 32)


def test_e06_paths_with_line_feeds_are_put_together_so_often_and_no_oftener(monkeypatch):
    """Each line of such a path is tried with all those before it: eight megabytes of them took four minutes."""
    text = line("/a\nb\nc") + line("/d\ne")

    assert [entry.path for entry in parse_ima(text).entries] == [b"/a\nb\nc", b"/d\ne"]
    monkeypatch.setattr("attestd.tpm.imaascii._MOST_TRIED", 2)
    assert refused(text) == "ima-line"
