"""Every report of `attestd inspect … --json` has the keys, types and words that docs/inspect-schemas.json promises.

Of each kind of evidence some files, good and bad, and for every command a file that is nothing it knows.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from attestd.cli.inspect import commands
from inspecting import identity, inspect, path_of
from testdata import TESTDATA, manifest_items, needs_testdata

SCHEMAS = json.loads((Path(__file__).parents[2] / "docs" / "inspect-schemas.json").read_text())
KINDS = {
    "eventlog": (
        "eventlog/uefi",
        "eventlog/ccel",
        "eventlog/txt",
        "eventlog/tpm12",
        "eventlog/cel-b64",
        "malformed/eventlog",
    ),
    "ima": ("ima/binary", "ima/ascii", "ima/ascii-mixed", "malformed/ima"),
    "ek": ("cert/ek", "cert/ek-nvram", "cert/ek-wrapped", "cert/ek-intel-json", "malformed/x509"),
    "cert": ("cert/ak", "cert/ca-odd", "cert/idevid", "cert/iak", "platcert/issuer", "malformed/x509"),
    "quote": ("quote/tpm2", "quote/tpm2-nokey", "quote/tpm2-synthetic"),
    "certify": ("quote/certify-webauthn", "quote/creation", "quote/tpm2"),
    "platform": ("platcert/ac", "platcert/issuer"),
    "rim": ("rim/swidtag", "rim/coswid", "rim/coswid-uswid", "rim/rimel"),
    "corim": ("corim/corim", "corim/comid", "corim/hirs"),
    "ear": ("eat/ear", "eat/ear-example", "eat/ear-jwt", "eat/ietf-example"),
}
EACH = 12
"""Files of a kind: the first, the last, and some between."""


def validator(command: str) -> Draft202012Validator:
    return Draft202012Validator({"$defs": SCHEMAS["$defs"], **SCHEMAS["properties"][command]})


def sample(kind: str) -> list[Any]:
    items = manifest_items(kind)
    return items[:: max(1, len(items) // EACH)]


def faults(command: str, document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator(command).iter_errors(document)]


def expected_exit(document: Any) -> int:
    return 0 if document["outcome"] in ("parsed", "trusted", "accepted", "same") else 1


@needs_testdata
@pytest.mark.testdata
@pytest.mark.parametrize(
    ("command", "item"),
    [
        pytest.param(command, item, id=f"{command}:{identity(item)}")
        for command, kinds in KINDS.items()
        for kind in kinds
        for item in sample(kind)
    ],
)
def test_a_report_has_the_promised_shape(command, item):
    code, document = inspect(command, path_of(item))

    assert faults(command, document) == []
    assert code == expected_exit(document)


@needs_testdata
@pytest.mark.testdata
@pytest.mark.parametrize("case", ["good-1", "tampered-cmdline", "tampered-file"])
def test_reports_on_a_boot_have_the_promised_shape(case):
    folder = TESTDATA / "vm" / case
    reports = {
        "evidence": inspect("evidence", folder),
        "eventlog": inspect("eventlog", folder / "eventlog.bin", "--pcrs", folder / "pcrs.json"),
        "ima": inspect("ima", folder / "ima.bin"),
        "diff": inspect("diff", TESTDATA / "vm" / "good-1", folder),
    }

    assert [fault for command, (_, document) in reports.items() for fault in faults(command, document)] == []
    assert reports["evidence"][1]["outcome"] == "accepted"
    assert reports["eventlog"][1]["registers"]["sha256"]["4"]["state"] == "explained"


@pytest.mark.parametrize("command", sorted(KINDS))
@pytest.mark.parametrize("data", [b"", b"\0", b"no evidence", b"\xff" * 4096], ids=["empty", "zero", "words", "ones"])
def test_what_is_no_evidence_is_refused_in_the_promised_shape(command, data, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(data)

    code, document = inspect(command, file)

    assert faults(command, document) == []
    assert (code, document["outcome"]) in ((1, "refused"), (0, "parsed"))
    # An empty runtime list is what a kernel without a policy shows.
    assert document["outcome"] == "refused" or (command, data) == ("ima", b"")


def test_an_empty_directory_is_refused_in_the_promised_shape(tmp_path):
    code, document = inspect("evidence", tmp_path)

    assert faults("evidence", document) == []
    assert (code, document["outcome"]) == (1, "refused")


def test_two_files_that_are_no_logs_are_refused_in_the_promised_shape(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"no evidence")

    code, document = inspect("diff", file, file)

    assert faults("diff", document) == []
    assert (code, document["outcome"]) == (1, "refused")


def test_the_schemas_are_schemas_of_commands():
    Draft202012Validator.check_schema(SCHEMAS)
    assert set(SCHEMAS["properties"]) <= {command.name for command in commands.registered_commands}
    assert set(SCHEMAS["properties"]) == {*KINDS, "evidence", "diff"}
