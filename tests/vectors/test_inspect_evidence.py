"""`attestd inspect evidence` and `diff` on recorded boots: the manifest's verdict, with the component named."""

import json
import shutil

import pytest

from attestd.appraisal.learn import learn
from attestd.cli.inspect_files import files_of
from attestd.inspection.evidence import prove_files
from attestd.tpm.eventlog import parse_event_log
from inspecting import inspect, shown
from testdata import TESTDATA, needs_testdata

pytestmark = [pytest.mark.testdata, needs_testdata]

VM = TESTDATA / "vm"
NOW_MS = 1_795_350_000_000
NAMED = {
    "tampered-cmdline": ({"kernel-command-line", "loader"}, "evil=1"),
    "tampered-file": ({"runtime"}, "/opt/app/helper.sh"),
}


def cases():
    path = VM / "manifest.json"
    return json.loads(path.read_text())["cases"] if path.is_file() else []


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    evidence = prove_files(files_of(VM / "good-1"), store=None, now_ms=NOW_MS, notes=[])
    path = tmp_path_factory.mktemp("profile") / "vm.yaml"
    path.write_text(learn([evidence], name="vm", version=1))
    return path


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["case"])
def test_a_recorded_boot_has_the_verdict_of_its_manifest(case, profile):
    code, document = inspect("evidence", VM / case["case"], "--profile", profile)

    accepted = case["verdict_against_good_1"] == "accept"
    expected = (0, "accepted", "affirming") if accepted else (1, "refused", "contraindicated")
    assert (code, document["outcome"], document["tier"]) == expected
    assert all(
        set(reason) >= {"code", "claim", "pcr", "event", "expected", "actual", "text"} for reason in document["reasons"]
    )


@pytest.mark.parametrize("machine", NAMED)
def test_what_was_tampered_with_is_named(machine, profile):
    claims, text = NAMED[machine]

    _, document = inspect("evidence", VM / machine, "--profile", profile)

    assert {reason["claim"] for reason in document["reasons"]} == claims
    assert any(text in reason["text"] for reason in document["reasons"])


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["case"])
def test_without_a_profile_the_proof_holds_and_nothing_is_affirmed(case):
    code, document = inspect("evidence", VM / case["case"])

    assert (code, document["outcome"], document["tier"]) == (0, "accepted", "none")
    assert document["registers"]["unexplained"] == []
    assert document["runtime"]["boot_aggregate"] == "matches"


def altered(tmp_path, name, change):
    copy = tmp_path / "evidence"
    shutil.copytree(VM / "good-1", copy)
    (copy / name).write_bytes(change((copy / name).read_bytes()))
    return copy


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes((data[-1] ^ 1,))


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("quote.sig", flip, "quote-signature"),
        ("nonce.bin", flip, "quote-binding"),
        ("eventlog.bin", lambda data: data[: len(data) // 2], "log-malformed"),
        ("ima.bin", lambda data: data[: len(data) // 2], "runtime-malformed"),
        ("pcrs.json", lambda data: data.replace(b"93b4db", b"93b4dc"), "quote-pcr-digest"),
        ("ak.tpm2b_public", lambda data: data[:-1], "ak-malformed"),
        ("ek.tpm2b_public", lambda data: data[:-1], "ek-public-malformed"),
    ],
)
def test_altered_evidence_is_refused_for_what_was_altered(name, change, code, tmp_path):
    exit_code, document = inspect("evidence", altered(tmp_path, name, change))

    assert (exit_code, [reason["code"] for reason in document["reasons"]]) == (1, [code])


def test_e04_another_boots_log_does_not_explain_the_registers(tmp_path):
    other = (VM / "tampered-cmdline" / "eventlog.bin").read_bytes()

    code, document = inspect("evidence", altered(tmp_path, "eventlog.bin", lambda _: other))

    assert (code, {reason["pcr"] for reason in document["reasons"]}) == (1, {4, 9, 11})


def test_e04_an_event_that_was_added_to_the_log_is_named(tmp_path):
    def doubled(data: bytes) -> bytes:
        # The last event, once more: the log is longer than what the quote explains.
        last = parse_event_log(data).events[-1]
        size = 12 + 2 + 32 + 4 + len(last.data)
        return data + data[-size:]

    _, document = inspect("evidence", altered(tmp_path, "eventlog.bin", doubled))

    (reason,) = (reason for reason in document["reasons"] if reason["code"] == "log-unexplained")
    assert (reason["pcr"], reason["event"]) == (5, 36)
    assert "never reached" in reason["text"]


def test_k06_an_endorsement_key_without_its_anchor_is_refused_where_anchors_are_given():
    bundle = next((TESTDATA / "cert" / "ca-bundle").glob("*.pem"))

    code, document = inspect("evidence", VM / "good-1", "--anchors", bundle)

    assert (code, [reason["code"] for reason in document["reasons"]]) == (1, ["ek-chain-untrusted"])


def test_a_directory_without_evidence_says_what_is_missing(tmp_path):
    code, document = inspect("evidence", tmp_path)

    assert (code, document["reasons"][0]["code"]) == (1, "evidence-incomplete")


def test_a_command_line_that_a_machine_only_claims_is_not_believed(tmp_path, profile):
    lie = json.dumps({"cmdline": "root=/dev/vda2 quiet"}).encode()

    _, document = inspect("diff", VM / "tampered-cmdline", altered(tmp_path, "report.json", lambda _: lie))

    assert not any("vda2 quiet" in json.dumps(change) for change in document["changes"])


# --- what changed ---------------------------------------------------------------------------------------------------


def test_the_difference_of_two_boots_names_the_word_that_was_added():
    code, text = shown("diff", VM / "good-1", VM / "tampered-cmdline")

    assert code == 1
    assert "kernel command line changed: `evil=1` added; PCR 9, 11" in text


def test_the_difference_of_two_boots_names_the_file():
    _, document = inspect("diff", VM / "good-1", VM / "tampered-file")

    assert [(one["subject"], one["kind"], one["pcrs"]) for one in document["changes"]] == [("file", "changed", [10])]
    assert "/opt/app/helper.sh" in document["changes"][0]["text"]


def test_a_boot_does_not_differ_from_itself():
    code, document = inspect("diff", VM / "good-1", VM / "good-1")

    assert (code, document["outcome"], document["changes"]) == (0, "same", [])


def test_two_logs_alone_can_be_compared():
    _, document = inspect("diff", VM / "good-1" / "eventlog.bin", VM / "tampered-cmdline" / "eventlog.bin")

    assert document["pcrs"] == [4, 9, 11]
    assert {one["subject"] for one in document["changes"]} == {"loader", "kernel command line"}
