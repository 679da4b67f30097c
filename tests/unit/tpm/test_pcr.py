import hashlib

import pytest

from attestd.tpm import pcr
from attestd.tpm.attest import PcrSelection
from attestd.tpm.errors import Malformed

VALUES = {"sha256": {index: bytes((index,)) * 32 for index in range(24)}, "sha1": {0: b"\xaa" * 20}}


def test_extending_hashes_the_old_value_and_the_digest():
    assert pcr.extend("sha256", bytes(32), b"d" * 32) == hashlib.sha256(bytes(32) + b"d" * 32).digest()


def test_the_digest_covers_the_values_in_their_order():
    one, two = b"1" * 32, b"2" * 32

    assert pcr.pcr_digest([one, two], "sha384") == hashlib.sha384(one + two).digest()
    assert pcr.pcr_digest([one, two], "sha384") != pcr.pcr_digest([two, one], "sha384")


def test_registers_start_at_zero():
    assert pcr.initial_value("sha384", 7) == bytes(48)


def test_the_startup_locality_is_the_last_byte_of_register_zero_only():
    assert pcr.initial_value("sha256", 0, startup_locality=3) == bytes(31) + b"\x03"
    assert pcr.initial_value("sha256", 1, startup_locality=3) == bytes(32)


def test_selected_values_come_in_the_order_of_the_selections():
    picked = pcr.selected_values([PcrSelection("sha256", (2, 5), 3), PcrSelection("sha1", (0,), 3)], VALUES)

    assert picked == (b"\x02" * 32, b"\x05" * 32, b"\xaa" * 20)


def test_q05_values_that_nobody_quoted_are_left_behind():
    picked = pcr.selected_values([PcrSelection("sha256", (2,), 3)], VALUES)

    assert picked == (b"\x02" * 32,)


@pytest.mark.parametrize("selection", [PcrSelection("sha1", (1,), 3), PcrSelection("sha512", (0,), 3)])
def test_q05_a_quoted_value_that_was_not_sent_is_refused(selection):
    with pytest.raises(Malformed) as caught:
        pcr.selected_values([selection], VALUES)

    assert caught.value.code == "pcr-value-missing"


def test_q05_a_value_of_another_length_is_refused():
    with pytest.raises(Malformed) as caught:
        pcr.selected_values([PcrSelection("sha256", (0,), 3)], {"sha256": {0: bytes(20)}})

    assert caught.value.code == "pcr-value-size"


def test_the_canonical_selection_is_sorted_and_without_duplicates():
    assert pcr.selection("sha256", [7, 0, 7]) == PcrSelection("sha256", (0, 7), 3)


@pytest.mark.parametrize("indices", [[24], [-1]])
def test_a_selection_of_a_register_that_does_not_exist_is_refused(indices):
    with pytest.raises(Malformed) as caught:
        pcr.selection("sha256", indices)

    assert caught.value.code == "pcr-index"


def test_a_selection_in_an_unknown_bank_is_refused():
    with pytest.raises(Malformed) as caught:
        pcr.selection("md5", [0])

    assert caught.value.code == "algorithm-unknown"
