"""What TPM response codes and NV contents mean to the agent, without a TPM."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestd_agent import tpm_templates as templates
from attestd_agent.tpm import TpmRefused, TpmUnavailable
from attestd_agent.tpm_codes import refusal
from attestd_agent.tpm_endorsement import split_chain


@pytest.mark.parametrize(
    ("rc", "code"),
    [
        (0x1DF, "foreign_blob"),  # INTEGRITY, parameter 1
        (0x98E, "authorization_refused"),  # AUTH_FAIL, session 1
        (0x9A2, "authorization_refused"),  # BAD_AUTH, session 1
        (0x99D, "policy_not_met"),
        (0x2C4, "malformed_input"),  # VALUE, parameter 2
        (0x921, "locked_out"),
        (0x902, "out_of_memory"),
        (0x143, "not_supported"),
        (0x101, "self_test_failed"),
        (0xC0921, "locked_out"),  # the same through the kernel's resource manager
        (0x90006, "malformed_input"),  # the marshalling layer
        (0x70005, "other"),
        (0x1CA, "other"),
    ],
)
def test_no_of_the_tpm_has_a_stable_code(rc: int, code: str) -> None:
    error = refusal(rc, "no")
    assert isinstance(error, TpmRefused)
    assert (error.code, error.rc) == (code, rc)


@pytest.mark.parametrize("rc", [0x100, 0x908, 0x90A, 0x922, 0xC0922, 0xA000A, 0xA0008, 0xB0001])
def test_answer_that_decides_nothing_is_no_refusal(rc: int) -> None:
    assert isinstance(refusal(rc, "later"), TpmUnavailable)


@given(st.integers(0, 0xFFFFFFFF))
def test_every_response_code_has_a_meaning(rc: int) -> None:
    assert isinstance(refusal(rc, ""), (TpmRefused, TpmUnavailable))


def der(size: int) -> bytes:
    return b"\x30\x82" + size.to_bytes(2, "big") + b"c" * size


@pytest.mark.parametrize("padding", [b"", b"\x00" * 40, b"\xff" * 40])
def test_chain_is_cut_at_its_certificates_and_loses_its_padding(padding: bytes) -> None:
    assert split_chain(der(300) + der(700) + padding) == (der(300), der(700))


def test_chain_of_another_form_stays_whole() -> None:
    assert split_chain(b"wrapped " + der(300)) == (b"wrapped " + der(300),)


@given(st.binary(max_size=2000))
def test_no_chain_loses_anything_but_padding(data: bytes) -> None:
    assert b"".join(split_chain(data)) in (data, data.rstrip(b"\x00\xff")) or not data.strip(b"\x00\xff")


def test_nonce_goes_to_the_start_of_the_empty_unique_field() -> None:
    for row in templates.EK_TEMPLATES[:2]:
        area = templates.ek_template_with_nonce(row, row.public, b"nonce")
        assert len(area) == len(row.public)
        assert area.count(b"nonce") == 1
        assert area.replace(b"nonce", bytes(5)) == row.public


def test_nonce_does_not_overwrite_a_unique_value_of_the_manufacturer() -> None:
    row = templates.EK_TEMPLATES[0]
    area = row.public[:-1] + b"u"
    assert templates.ek_template_with_nonce(row, area, b"nonce") == area


@given(st.sets(st.integers(0, 23), min_size=1))
def test_selection_has_one_bit_for_each_register(pcrs: set[int]) -> None:
    data = templates.pcr_selection(0x000B, tuple(sorted(pcrs)))
    assert data[:7] == bytes.fromhex("00000001000b03")
    assert {index for index in range(24) if data[7 + index // 8] >> index % 8 & 1} == pcrs
