"""Whatever the bytes: every report builder reports or refuses with a code of its own, and raises nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestd.inspection.certificates import NOBODY, inspect_certificate, inspect_ek, read_bundle
from attestd.inspection.registers import read_registers
from attestd.inspection.runtime import inspect_ima
from inspecting import refusal_of
from tpm_structures import ima_entry

AT = 1_795_350_000
BUILDERS = {
    "ima": lambda data: inspect_ima(data).document(),
    "ek": lambda data: inspect_ek(data, NOBODY, at=AT).document(),
    "cert": lambda data: inspect_certificate(data, NOBODY, at=AT).document(),
    "bundle": lambda data: read_bundle([data]),
    "registers": read_registers,
}
SEEDS = [
    b"",
    b"\x30\x03\x02\x01\x01",
    b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----",
    ima_entry(),
    b"{}",
]


@pytest.mark.parametrize("builder", BUILDERS)
@given(data=st.binary(max_size=600) | st.tuples(st.sampled_from(SEEDS), st.binary(max_size=80)).map(b"".join))
@settings(deadline=None, max_examples=150)
def test_there_is_a_report_or_a_refusal(builder, data):
    refusal = refusal_of(lambda: BUILDERS[builder](data))

    assert refusal is None or "-" in refusal
