"""A file that was handed to the wrong command: the refusal says which one fits."""

import gzip
from itertools import permutations
from pathlib import Path

import pytest

from attestd.inspection.kinds import hint_for, kind_of
from inspecting import inspect, shown
from testdata import TESTDATA, needs_testdata

pytestmark = [needs_testdata, pytest.mark.testdata]

_FILES = {
    "eventlog": "vm/good-1/eventlog.bin",
    "ima": "vm/good-1/ima.bin",
    "quote": "quote/tpm2/cmc__cmc_valid.json",
    "certify": "quote/certify-webauthn/SimpleWebAuthn__webauthn_NTC_41275e92.json",
    "ek": "cert/ek/HIRS__STM_07d685f939.der",
    "cert": "cert/ak/SimpleWebAuthn__AK-NTC_465f4560ec.der",
    "platform": "platcert/ac/go-attestation__testdata__Intel_pc1.cer",
    "rim": "rim/swidtag/HIRS__swidtags__laptop_badOemInstall_oem.1.swidtag",
    "corim": "corim/corim/corim__testcases__signed-good-corim.cbor",
    "ear": "eat/ear-jwt/ear__ear_jwt_0.jwt",
}
_READ_BY_BOTH = {("cert", "ek")}
"""`cert` shows what `ek` does, without its profile."""


@pytest.mark.parametrize(("command", "kind"), sorted(set(permutations(_FILES, 2)) - _READ_BY_BOTH))
def test_a_file_of_another_kind_is_told_with_the_command_that_shows_it(command: str, kind: str) -> None:
    code, document = inspect(command, TESTDATA / _FILES[kind])
    assert (code, document["looks_like"]) == (1, kind)
    code, text = shown(command, TESTDATA / _FILES[kind])
    assert code == 1
    assert f"attestd inspect {kind}" in text


@pytest.mark.parametrize("kind", _FILES)
def test_a_file_of_the_commands_own_kind_gets_no_hint(kind: str) -> None:
    data = (TESTDATA / _FILES[kind]).read_bytes()
    assert hint_for(data, kind) is None
    found = kind_of(data)
    assert found is not None
    assert found.command == kind


def test_a_report_that_refuses_its_own_kind_names_no_other_command() -> None:
    code, document = inspect("quote", TESTDATA / "quote/tpm2/cmc__cmc_invalid_pcr.json")
    assert code == 1
    assert "looks_like" not in document


def test_a_compressed_log_is_told_how_to_unpack_it(tmp_path: Path) -> None:
    packed = tmp_path / "eventlog.gz"
    packed.write_bytes(gzip.compress((TESTDATA / _FILES["eventlog"]).read_bytes()))
    code, text = shown("eventlog", packed)
    assert code == 1
    assert "gzip -dc FILE | attestd inspect eventlog -" in text


def test_a_log_that_is_too_long_for_a_certificate_is_told_for_what_it_is(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes((TESTDATA / _FILES["eventlog"]).read_bytes() + bytes(300_000))
    code, document = inspect("ek", log)
    assert (code, document["looks_like"]) == (1, "eventlog")


def test_register_values_are_told_where_they_belong() -> None:
    code, text = shown("eventlog", TESTDATA / "vm/good-1/pcrs.json")
    assert code == 1
    assert "--pcrs" in text


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(range(64)), b"hello\n", bytes(4096)])
def test_what_no_command_reads_gets_no_hint(data: bytes) -> None:
    assert kind_of(data) is None


def test_each_side_of_a_difference_is_named_where_it_is_no_log() -> None:
    code, text = shown("diff", TESTDATA / "vm/good-1", TESTDATA / "vm/good-1/ima.bin")
    assert code == 1
    assert "ima.bin: " in text
    assert "attestd inspect ima" in text


def test_a_directory_in_place_of_a_file_names_the_command_for_it() -> None:
    code, text = shown("eventlog", TESTDATA / "vm/good-1")
    assert code == 2
    assert "inspect evidence" in " ".join(text.split())
