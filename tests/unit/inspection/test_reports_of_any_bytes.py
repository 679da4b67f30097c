"""Whatever the bytes: every report builder reports or refuses with a code of its own, and raises nothing else."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestd.inspection.certificates import NOBODY, inspect_certificate, inspect_ek, read_bundle
from attestd.inspection.corim import inspect_corim
from attestd.inspection.difference import read_boot
from attestd.inspection.ear import inspect_ear
from attestd.inspection.evidence import NEEDED, OPTIONAL, inspect_evidence
from attestd.inspection.platform import inspect_platform
from attestd.inspection.registers import read_registers
from attestd.inspection.rim import inspect_rim
from attestd.inspection.runtime import inspect_ima
from attestd.inspection.statements import inspect_certify, inspect_quote
from inspecting import refusal_of
from tpm_structures import ima_entry

USWID = b"SBOM" + bytes.fromhex("d6ba2eaca3e67a52aaee3baf021800")
AT = 1_795_350_000
BUILDERS = {
    "quote": lambda data: inspect_quote(data).document(),
    "certify": lambda data: inspect_certify(data).document(),
    "boot": lambda data: read_boot({"eventlog.bin": data, "ima.bin": data, "pcrs.json": data, "report.json": data}),
    "ima": lambda data: inspect_ima(data).document(),
    "ek": lambda data: inspect_ek(data, NOBODY, at=AT).document(),
    "cert": lambda data: inspect_certificate(data, NOBODY, at=AT).document(),
    "bundle": lambda data: read_bundle([data]),
    "registers": read_registers,
    "platform": lambda data: inspect_platform(data, NOBODY, at=AT).document(),
    "rim": lambda data: inspect_rim(data, NOBODY, at=AT).document(),
    "swid": lambda data: inspect_rim(b"<SoftwareIdentity><Payload>" + data, None, at=AT).document(),
    "uswid": lambda data: inspect_rim(USWID + data, None, at=AT).document(),
    "corim": lambda data: inspect_corim(data, data, at=AT).document(),
    "ear": lambda data: inspect_ear(data, data, at=AT).document(),
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


TUPLE_FIELDS = ("attest", "signature_tpmt", "signature_raw", "ak_tpmt_public", "ak_spki_der", "nonce", "pubArea")
JUNK = st.one_of(st.none(), st.integers(), st.text(max_size=8), st.lists(st.text(max_size=4), max_size=2))


@given(
    fields=st.dictionaries(st.sampled_from(TUPLE_FIELDS), st.binary(max_size=120).map(bytes.hex) | JUNK),
    others=st.dictionaries(
        st.sampled_from(("pcrs", "x5c", "signature")), JUNK | st.dictionaries(st.text(max_size=6), JUNK)
    ),
)
@settings(deadline=None, max_examples=200)
def test_whatever_the_fields_of_a_tuple_it_is_not_accepted(fields, others):
    data = json.dumps({**fields, **others}).encode()
    accepted = []

    refusal = refusal_of(lambda: accepted.append(inspect_quote(data).accepted))

    assert refusal is not None or accepted == [False]


@given(files=st.dictionaries(st.sampled_from([*NEEDED, *OPTIONAL, "nv_01.der"]), st.binary(max_size=80)))
@settings(deadline=None, max_examples=100)
def test_whatever_the_files_of_a_directory_they_are_not_accepted(files):
    accepted = []

    refusal = refusal_of(
        lambda: accepted.append(inspect_evidence(files, store=NOBODY, profile=None, now_ms=AT * 1000).accepted)
    )

    assert refusal is not None or accepted == [False]
