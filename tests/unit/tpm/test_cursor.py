import pytest

from attestd.tpm.cursor import Cursor
from attestd.tpm.errors import Malformed


def test_integers_are_read_in_the_order_that_was_asked_for():
    data = bytes(range(1, 8))

    big, little = Cursor(data, order=">"), Cursor(data, order="<")

    assert (big.u8(), big.u16(), big.u32()) == (0x01, 0x0203, 0x04050607)
    assert (little.u8(), little.u16(), little.u32()) == (0x01, 0x0302, 0x07060504)
    assert big.remaining == little.remaining == 0


@pytest.mark.parametrize("read", ["u8", "u16", "u32"])
def test_an_integer_past_the_end_is_refused(read):
    cursor = Cursor(b"\0" * 9)
    cursor.take(9)

    with pytest.raises(Malformed) as caught:
        getattr(cursor, read)()

    assert (caught.value.code, caught.value.where) == ("structure-truncated", 9)


def test_a_take_past_the_end_reads_nothing():
    cursor = Cursor(b"abc")

    with pytest.raises(Malformed) as caught:
        cursor.take(4)

    assert caught.value.code == "structure-truncated"
    assert cursor.position == 0


def test_a_sized_buffer_is_exactly_its_bytes():
    cursor = Cursor(b"\x00\x03abcd")

    assert cursor.sized2b() == b"abc"
    assert cursor.remaining == 1


def test_a_sized_buffer_longer_than_the_data_is_refused():
    with pytest.raises(Malformed) as caught:
        Cursor(b"\xff\xffabc").sized2b()

    assert caught.value.code == "structure-truncated"


def test_bytes_behind_the_structure_are_refused():
    cursor = Cursor(b"ab")
    cursor.u8()

    with pytest.raises(Malformed) as caught:
        cursor.expect_end()

    assert (caught.value.code, caught.value.where) == ("structure-trailing", 1)


def test_the_end_is_accepted_where_nothing_is_left():
    cursor = Cursor(b"a")
    cursor.u8()

    cursor.expect_end()

    assert cursor.remaining == 0
