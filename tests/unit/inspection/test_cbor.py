"""The reader of CBOR: the examples of RFC 8949, appendix A, and what it refuses."""

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestd.inspection.cborread import Tag, plain_json, read_cbor
from attestd.inspection.refused import InspectionRefused
from inspecting import refusal_of

EXAMPLES = [
    ("00", 0),
    ("1bffffffffffffffff", 2**64 - 1),
    ("3903e7", -1000),
    ("f93e00", 1.5),
    ("fb3ff199999999999a", 1.1),
    ("f4", False),
    ("f6", None),
    ("c11a514b67b0", Tag(1, 1363896240)),
    ("d82076687474703a2f2f7777772e6578616d706c652e636f6d", Tag(32, "http://www.example.com")),
    ("4401020304", bytes((1, 2, 3, 4))),
    ("64f0908591", "\U00010151"),
    ("8301820203820405", [1, [2, 3], [4, 5]]),
    ("a26161016162820203", {"a": 1, "b": [2, 3]}),
    ("5f42010243030405ff", bytes((1, 2, 3, 4, 5))),
    ("7f657374726561646d696e67ff", "streaming"),
    ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
    ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
]
REFUSED = [
    "",
    "ff",
    "0000",
    "1c",
    "6161ff",
    "62ff",
    "61ff",
    "a2010101",
    "a201010102",
    "a1800",
    "a18000",
    "9f",
    "5f6161ff",
    "bf01ff",
    "9bffffffffffffffff",
    "bbffffffffffffffff",
    "5bffffffffffffffff",
    "f0",
    "81" * 100 + "00",
    "c1" * 100 + "00",
]


@pytest.mark.parametrize(("text", "value"), EXAMPLES)
def test_an_example_of_the_standard_is_read(text, value):
    assert read_cbor(bytes.fromhex(text)) == value


@pytest.mark.parametrize("text", [text for text in REFUSED if len(text) % 2 == 0])
def test_what_is_not_one_item_within_bounds_is_refused(text):
    with pytest.raises(InspectionRefused) as caught:
        read_cbor(bytes.fromhex(text))

    assert caught.value.code == "cbor-malformed"


def test_e06_two_megabytes_and_one_byte_are_refused_for_their_size():
    assert refusal_of(lambda: read_cbor(bytes(2 * 1024 * 1024 + 1))) == "cbor-size"


ITEMS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.binary(max_size=20) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6) | st.integers(0, 99), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(ITEMS)
@settings(deadline=None)
def test_what_another_writer_writes_is_read_back(value):
    found = read_cbor(cbor2.dumps(value))

    assert found == value
    plain_json(found)


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=400)
def test_whatever_the_bytes_there_is_an_item_or_a_refusal(data):
    assert refusal_of(lambda: plain_json(read_cbor(data))) in {None, "cbor-malformed"}
