import pytest
from sqlalchemy.dialects import sqlite

from attestd.store.columns import (
    Document,
    Keys,
    Labels,
    Texts,
    Unsigned64,
    decode_document,
    decode_keys,
    encode_document,
)

DIALECT = sqlite.dialect()


@pytest.mark.parametrize("value", [{"b": [1, "x"], "a": None}, [], "a\x00\x1b", 2**64, True, "\ud800"])
def test_a_document_comes_back_and_is_ascii(value: object) -> None:
    encoded = encode_document(value)
    assert encoded is not None
    assert encoded.isascii()
    assert "\x00" not in encoded
    assert decode_document(encoded) == value


def test_a_document_has_one_encoding() -> None:
    assert encode_document({"b": 1, "a": 2}) == encode_document({"a": 2, "b": 1}) == '{"a":2,"b":1}'


def test_no_document_is_null() -> None:
    assert encode_document(None) is None
    assert decode_document(None) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_t03_what_json_does_not_have_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode_document({"x": value})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Texts(), ("a", "b\x00")),
        (Texts(), ()),
        (Labels(), (("hostname", "r\u00e9gion"), ("serial", ""))),
        (Keys(), (("wireguard", bytes(range(32))),)),
        (Document(), {"a": [1]}),
        (Unsigned64(), 2**64 - 1),
        (Unsigned64(), 0),
    ],
    ids=str,
)
def test_a_value_comes_back_as_it_was(kind: object, value: object) -> None:
    bound = kind.process_bind_param(value, DIALECT)  # type: ignore[attr-defined]
    assert isinstance(bound, str)
    assert kind.process_result_value(bound, DIALECT) == value  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [Texts(), Labels(), Keys(), Document(), Unsigned64()], ids=repr)
def test_nothing_is_null_in_every_type(kind: object) -> None:
    assert kind.process_bind_param(None, DIALECT) is None  # type: ignore[attr-defined]
    assert kind.process_result_value(None, DIALECT) is None  # type: ignore[attr-defined]


def test_the_routine_path_decodes_keys_like_the_type() -> None:
    keys = (("ipsec", b"\x01"), ("wireguard", bytes(32)))
    encoded = Keys().process_bind_param(keys, DIALECT)
    assert encoded is not None
    assert decode_keys(encoded) == keys


def test_firmware_versions_keep_their_order() -> None:
    encoded = [Unsigned64().process_bind_param(value, DIALECT) for value in (1, 2**63, 2**64 - 1)]
    assert encoded == sorted(map(str, encoded))


@pytest.mark.parametrize("value", [-1, 2**64])
def test_what_is_not_64_bits_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="64-bit"):
        Unsigned64().process_bind_param(value, DIALECT)
