import pytest

import tpm_structures as made
from attestd.protocol.limits import MAX_PCR_SELECTIONS, MAX_TPM_STRUCTURE
from attestd.tpm.attest import KINDS, CertifyBody, OtherBody, PcrSelection, QuoteBody, parse_attest
from attestd.tpm.errors import Malformed
from tpm_structures import SHA1_ID, SHA256_ID, SHA384_ID, sized, u16, u32


def refused(data: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        parse_attest(data)
    return caught.value.code


def test_a_quote_is_read_with_all_its_fields():
    attest = parse_attest(made.quote(digest=b"d" * 32))

    assert (attest.magic, attest.tag, attest.kind) == (0xFF544347, 0x8018, "quote")
    assert attest.qualified_signer == u16(SHA256_ID) + bytes(32)
    assert attest.extra_data == b"n" * 32
    assert (attest.clock.clock, attest.clock.reset_count, attest.clock.restart_count) == (1_000, 5, 1)
    assert attest.clock.safe is True
    assert attest.firmware_version == 0x0102030405060708
    assert attest.body == QuoteBody((PcrSelection("sha256", tuple(range(10)), 3),), b"d" * 32)


def test_a_certification_is_read():
    attest = parse_attest(made.attest_head(0x8017) + sized(b"name") + sized(b"qualified"))

    assert (attest.kind, attest.body) == ("certify", CertifyBody(b"name", b"qualified"))


@pytest.mark.parametrize(("tag", "kind"), sorted(KINDS.items()))
def test_q02_every_type_parses_so_that_the_evidence_room_can_refuse_it(tag, kind):
    bodies = {"quote": made.selection([]) + sized(b""), "certify": sized(b"") + sized(b"")}

    attest = parse_attest(made.attest_head(tag) + bodies.get(kind, b"anything"))

    assert attest.kind == kind
    assert kind in bodies or attest.body == OtherBody(b"anything")


def test_a_type_that_is_not_known_is_unknown_and_not_a_quote():
    assert parse_attest(made.attest_head(0x801B) + b"x").kind == "unknown"


def test_q01_another_magic_parses_and_is_shown():
    assert parse_attest(made.quote(magic=0x12345678)).magic == 0x12345678


def test_q09_a_byte_behind_a_quote_is_refused():
    assert refused(made.quote() + b"\0") == "structure-trailing"


def test_q09_a_byte_behind_a_certification_is_refused():
    assert refused(made.attest_head(0x8017) + sized(b"a") + sized(b"b") + b"\0") == "structure-trailing"


def test_a_quote_cut_anywhere_is_refused():
    data = made.quote([(SHA1_ID, [1]), (SHA256_ID, [2])])

    assert {refused(data[:length]) for length in range(len(data))} == {"structure-truncated"}


def test_a_certification_cut_anywhere_is_refused():
    data = made.attest_head(0x8017) + sized(b"name") + sized(b"qualified")

    assert {refused(data[:length]) for length in range(len(data))} == {"structure-truncated"}


def test_an_attestation_beyond_the_bound_is_refused():
    assert refused(made.attest_head(0x8019) + bytes(MAX_TPM_STRUCTURE)) == "structure-size"


def test_a_safe_flag_that_is_neither_yes_nor_no_is_refused():
    assert refused(made.quote(safe=2)) == "attest-flag"


def test_a_clock_that_may_have_run_backwards_is_told():
    assert parse_attest(made.quote(safe=0)).clock.safe is False


def test_selections_keep_the_order_in_which_the_tpm_hashed_them():
    body = parse_attest(made.quote([(SHA256_ID, [7, 0]), (SHA1_ID, [23])])).body

    assert isinstance(body, QuoteBody)
    assert body.selections == (PcrSelection("sha256", (0, 7), 3), PcrSelection("sha1", (23,), 3))


@pytest.mark.parametrize("pcr", range(24))
def test_each_bit_of_a_bitmap_is_its_register(pcr):
    body = parse_attest(made.quote([(SHA384_ID, [pcr])])).body

    assert isinstance(body, QuoteBody)
    assert body.selections[0].pcrs == (pcr,)


def test_q03_an_empty_selection_parses_and_is_empty():
    body = parse_attest(made.quote([])).body

    assert isinstance(body, QuoteBody)
    assert body.selections == ()


@pytest.mark.parametrize("size", [1, 2, 4])
def test_q03_a_bitmap_of_another_size_is_shown(size):
    data = made.attest_head(0x8018) + made.selection([(SHA256_ID, [0])], size=size) + sized(bytes(32))
    body = parse_attest(data).body

    assert isinstance(body, QuoteBody)
    assert body.selections[0].size_of_select == size


@pytest.mark.parametrize("size", [0, 5, 255])
def test_q03_a_bitmap_of_an_impossible_size_is_refused(size):
    body = u32(1) + u16(SHA256_ID) + bytes((size,)) + bytes(size) + sized(bytes(32))

    assert refused(made.attest_head(0x8018) + body) == "pcr-selection-size"


def test_q03_a_register_above_23_is_refused():
    data = made.attest_head(0x8018) + made.selection([(SHA256_ID, [24])], size=4) + sized(bytes(32))

    assert refused(data) == "pcr-index"


def test_q03_the_same_register_in_two_selections_parses_and_is_shown_twice():
    body = parse_attest(made.quote([(SHA256_ID, [1]), (SHA256_ID, [1])])).body

    assert isinstance(body, QuoteBody)
    assert [selection.pcrs for selection in body.selections] == [(1,), (1,)]


@pytest.mark.parametrize("count", [MAX_PCR_SELECTIONS + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_selection_count_beyond_the_bound_is_refused_before_anything_is_read(count):
    assert refused(made.attest_head(0x8018) + u32(count) + bytes(64)) == "pcr-selection-count"


def test_q04_a_bank_of_an_unknown_algorithm_is_refused():
    assert refused(made.quote([(0x0027, [0])])) == "algorithm-unknown"
