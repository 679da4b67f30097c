"""Base64 in every writing that is met, and nothing else."""

import pytest

from attestd_pki.base64text import decode_base64


@pytest.mark.parametrize("text", ["+/8=", "-_8=", "+/8", "-_8", "+\n/8 =\r\n", b"-/8"])
def test_either_alphabet_is_read_padded_or_not_and_on_any_lines(text):
    assert decode_base64(text) == b"\xfb\xff"


@pytest.mark.parametrize("text", ["+/8*", "A", "+=/8", "é", "+/8\0"])
def test_anything_else_is_an_error(text):
    with pytest.raises(ValueError):
        decode_base64(text)
