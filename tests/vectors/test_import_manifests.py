"""`attestd profile import` on manifests of other projects: a laptop's signed RIMs with their logs, a TPM's reference values."""

import base64
import json

import pytest
from typer.testing import CliRunner

import manifest_forge as forge
from attestd.appraisal.profile import parse_profile_yaml
from attestd.cli.main import app
from attestd.evidence.components import components
from attestd.inspection.xmlread import read_xml
from attestd.tpm.eventlog import parse_event_log
from cert_forge import make
from inspecting import identity, inspect, path_of
from testdata import TESTDATA, manifest_items, needs_testdata

pytestmark = [pytest.mark.testdata, needs_testdata]

SWIDS = manifest_items("rim/swidtag")
LOGS = manifest_items("rim/rimel")
CORIMS = manifest_items("corim/corim")
OTHERS = manifest_items("rim/coswid", "rim/coswid-uswid")
LAPTOPS = ("badOemInstall", "badVarInstall")


@pytest.fixture
def signer(tmp_path):
    """Return the key that signed the laptop's manifests, which lies in them, as a file that somebody chose to trust."""
    tag = read_xml(path_of(next(item for item in SWIDS if "laptop.default" in item["file"])).read_bytes())
    (value,) = tag.elements("Signature")[0].elements("KeyInfo")[0].elements("KeyValue")[0].elements("RSAKeyValue")
    numbers = {"n": "Modulus", "e": "Exponent"}
    members = {
        short: base64.urlsafe_b64encode(base64.b64decode("".join(value.elements(name)[0].text().split()))).decode()
        for short, name in numbers.items()
    }
    path = tmp_path / "maker.jwk"
    path.write_text(json.dumps({"kty": "RSA", **members}))
    return path


def run(*arguments):
    done = CliRunner().invoke(app, ["profile", "import", *map(str, arguments), "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, json.loads(done.stdout) if done.exit_code == 0 else json.loads(done.stderr)["error"]


def of(name, kind, items):
    return path_of(next(item for item in items if f"laptop_{name}_{kind}" in item["file"]))


def laptop(name):
    """Return the arguments for both manifests of one laptop and their logs, the later one first."""
    manifests = [of(name, kind, SWIDS) for kind in ("var", "oem")]
    logs = [part for kind in ("var", "oem") for part in ("--support-log", of(name, kind, LOGS))]
    return [*manifests, *logs]


@pytest.mark.parametrize("name", LAPTOPS)
def test_a_laptops_signed_manifests_accept_what_their_logs_say(name, signer, tmp_path):
    exit_code, report = run(*laptop(name), "--key", signer, "-o", tmp_path / "p.yaml")

    profile = parse_profile_yaml((tmp_path / "p.yaml").read_text())
    oem, var = (parse_event_log(of(name, kind, LOGS).read_bytes()) for kind in ("oem", "var"))
    events = [event._replace(index=number) for number, event in enumerate((*oem.events, *var.events))]
    measured = [one for one, _ in components(events, "sha256", registers=frozenset(range(24)))]
    assert (exit_code, report["vouched"], len(measured)) == (0, True, 29)
    assert all(profile.by_claim[one.claim].accepts("sha256", one.digest, value=one.value) for one in measured)
    assert {"firmware", "platform-config", "secure-boot", "loader", "application", "mok"} <= set(report["claims"])


def test_the_log_of_another_laptop_is_not_the_listed_one(signer, tmp_path):
    mixed = [of("badOemInstall", "oem", SWIDS), "--support-log", of("badVarInstall", "oem", LOGS)]

    exit_code, error = run(*mixed, "--key", signer, "-o", tmp_path / "p.yaml")

    assert (exit_code, error["code"]) == (1, "support-log-unlisted")


@pytest.mark.parametrize("item", SWIDS, ids=identity)
def test_no_manifest_counts_without_somebody_who_may_sign(item, tmp_path):
    exit_code, error = run(path_of(item), "-o", tmp_path / "p.yaml")

    signed = "swidtags" in item["file"]
    assert (exit_code, error["code"]) == (1, "anchor-needed" if signed else "manifest-unsigned")


@pytest.mark.parametrize("item", [item for item in CORIMS if "parsec-tpm-valid" in item["file"]], ids=identity)
def test_a_tpms_reference_values_become_those_of_its_registers(item, tmp_path):
    assert run(path_of(item), "-o", tmp_path / "p.yaml")[1]["code"] == "manifest-unsigned"

    _, report = run(path_of(item), "--unsigned", "-o", tmp_path / "p.yaml")

    profile = parse_profile_yaml((tmp_path / "p.yaml").read_text())
    assert (report["vouched"], [one.index for one in profile.registers]) == (False, [0, 1, 2])
    assert {name for one in profile.registers for name, _ in one.values} == {"sha384"}


@pytest.mark.parametrize(
    "item",
    [item for item in CORIMS if "parsec" not in item["file"] and "-bad-" not in item["file"]] + OTHERS,
    ids=identity,
)
def test_what_says_nothing_of_a_boot_or_a_file_is_not_imported(item, tmp_path):
    exit_code, error = run(path_of(item), "--unsigned", "--at", "2022-06-01", "-o", tmp_path / "p.yaml")

    assert (exit_code, error["code"]) == (1, "manifest-inexpressible")


@pytest.mark.parametrize("item", [item for item in CORIMS if "-bad-" in item["file"]], ids=identity)
def test_a_manifest_against_its_own_profile_is_not_imported(item, tmp_path):
    assert run(path_of(item), "--unsigned", "-o", tmp_path / "p.yaml")[1]["code"] == "comid-profile"


VM = TESTDATA / "vm"


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Return the profile out of a manifest whose support log is a real machine's boot log."""
    place = tmp_path_factory.mktemp("vm")
    log = (VM / "good-1" / "eventlog.bin").read_bytes()
    (place / "vm.rimel").write_bytes(log)
    text = forge.tag(forge.listed("vm.rimel", log), meta=forge.RIM)
    (place / "vm.swidtag").write_bytes(forge.signed_tag(text, forge.SIGNER.key, certificates=[forge.certificate()]))
    anchor = base64.encodebytes(make(forge.ROOT).der)
    (place / "anchors.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\n" + anchor + b"-----END CERTIFICATE-----\n")
    options = ("--support-log", place / "vm.rimel", "--anchors", place / "anchors.pem", "--at", forge.AT)
    exit_code, _ = run(place / "vm.swidtag", *options, "-o", place / "vm.yaml")
    assert exit_code == 0
    return place / "vm.yaml"


@pytest.mark.parametrize(("machine", "tier"), [("good-1", "affirming"), ("tampered-cmdline", "contraindicated")])
def test_the_machine_of_the_support_log_is_affirmed_and_another_boot_of_it_is_not(imported, machine, tier):
    _, document = inspect("evidence", VM / machine, "--profile", imported)

    assert document["tier"] == tier
