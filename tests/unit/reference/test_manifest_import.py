"""`attestd profile import` on manifests made here: whose word counts, what becomes of it, and what is refused."""

import json
from hashlib import sha256

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

import manifest_forge as forge
from attestd.appraisal.profile import parse_profile_yaml
from attestd.cli.main import app
from attestd.evidence.boot import boot_facts
from attestd.tpm.eventlog import parse_event_log, replay
from attestd.tpm.eventtypes import EventType as T
from attestd_pki.times import in_words
from cert_forge import DAY, make
from event_logs import event, honest_boot
from tpm_structures import SHA256_ID, agile_event, agile_log, spec_id

HEADER = spec_id([(SHA256_ID, 32)])


def log_of(made):
    """Return a log's bytes with SHA-256 digests of what each event's content is."""
    return agile_log(
        *(
            agile_event(pcr, int(kind), data, digests=[(SHA256_ID, sha256(content).digest())])
            for pcr, kind, data, content in made
        ),
        header=HEADER,
    )


LOG = log_of(honest_boot())
RIM = forge.tag(forge.listed("box.rimel", LOG), meta=forge.RIM)


@pytest.fixture
def place(tmp_path):
    """Return a writer of files, and the folder that they are in."""
    (tmp_path / "anchors.pem").write_bytes(pem(make(forge.ROOT)))
    (tmp_path / "box.rimel").write_bytes(LOG)
    return tmp_path


def pem(certificate):
    import base64

    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(certificate.der) + b"-----END CERTIFICATE-----\n"


def run(place, manifests, *options, output="out.yaml"):
    """Import manifests (by name) and return exit code, the report or the error, and the YAML."""
    paths = []
    for name, data in manifests.items():
        (place / name).write_bytes(data)
        paths.append(str(place / name))
    arguments = [
        "profile",
        "import",
        *paths,
        *map(str, options),
        "-o",
        str(place / output),
        "--json",
        *(() if "--at" in options else ("--at", str(forge.AT))),
    ]
    done = CliRunner().invoke(app, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    report = json.loads(done.stdout) if done.exit_code == 0 else json.loads(done.stderr)["error"]
    written = place / output
    return done.exit_code, report, written.read_text() if written.exists() else ""


def code_of(place, manifests, *options):
    """Return the code with which an import is refused; nothing is written then."""
    exit_code, error, text = run(place, manifests, *options)
    assert (exit_code, text) == (1, "")
    return error["code"]


def rim(text=RIM, plan=forge.SIGNER, issuer=forge.ROOT, **changes):
    """Return a RIM signed by ACME's signer, certificate included."""
    return forge.signed_tag(text, plan.key, certificates=[forge.certificate(plan, issuer)], **changes)


def anchored(place):
    return ("--anchors", place / "anchors.pem")


# --- A reference manifest and its log ---


def test_a_signed_rim_and_its_log_become_claims_that_accept_that_boot(place):
    _, report, text = run(place, {"box.swidtag": rim()}, "--support-log", place / "box.rimel", *anchored(place))

    profile = parse_profile_yaml(text)
    log = parse_event_log(LOG)
    facts = boot_facts(log, log_digest=bytes(32), bank="sha256", pcrs=replay(log, "sha256").pcrs)
    refused = [
        one
        for one in facts.components
        if not profile.by_claim[one.claim].accepts("sha256", one.digest, value=one.value)
    ]
    assert (refused, profile.requires_something, report["vouched"]) == ([], True, True)
    assert report["support_logs"][0]["manifest"] == "box.swidtag"


def test_every_value_says_whose_word_it_is(place):
    _, _, text = run(place, {"box.swidtag": rim()}, "--support-log", place / "box.rimel", *anchored(place))

    values = [line for line in text.splitlines() if line.strip().startswith(("- digest", "- text"))]
    assert values
    assert all("# ACME: box-1 v2.0 (box.swidtag), box.rimel" in line for line in values)
    assert "signed by CN=ACME RIM signer" in text


def test_another_boot_than_the_logged_one_is_not_accepted(place):
    _, _, text = run(place, {"box.swidtag": rim()}, "--support-log", place / "box.rimel", *anchored(place))

    policy = parse_profile_yaml(text).by_claim["loader"]
    assert not policy.accepts("sha256", sha256(b"another shim").digest(), value=None)


def test_a_rim_that_continues_another_comes_behind_it_in_any_order(place):
    made = honest_boot()
    split = next(i for i, one in enumerate(made) if one[1] is T.EFI_BOOT_SERVICES_APPLICATION)
    first, second = log_of(made[:split]), log_of(made[split:])
    (place / "a.rimel").write_bytes(first)
    (place / "b.rimel").write_bytes(second)
    links = '<Link href="box-1" rel="requires"/>'
    manifests = {
        "second.swidtag": rim(forge.tag(forge.listed("b.rimel", second), meta=forge.RIM, links=links)),
        "first.swidtag": rim(forge.tag(forge.listed("a.rimel", first), meta=forge.RIM)),
    }
    logs = ("--support-log", place / "b.rimel", "--support-log", place / "a.rimel")

    _, _, text = run(place, manifests, *logs, *anchored(place))

    loader = parse_profile_yaml(text).by_claim["loader"]
    assert loader.accepts("sha256", sha256(b"shim").digest(), value=None)
    only = {"second.swidtag": manifests["second.swidtag"]}
    assert run(place, only, *logs[:2], *anchored(place), output="x.yaml")[1]["code"] == "support-log-partial"


REFUSED_LOGS = {
    "support-log-altered": lambda place: (place / "box.rimel").write_bytes(LOG[:-1] + b"!"),
    "support-log-unlisted": lambda place: (
        (place / "box.rimel").rename(place / "other.rimel").write_bytes(LOG + bytes(8))
    ),
}


@pytest.mark.parametrize("code", REFUSED_LOGS)
def test_a_log_that_the_manifest_does_not_list_is_refused(place, code):
    REFUSED_LOGS[code](place)
    log = next(place.glob("*.rimel"))

    assert code_of(place, {"box.swidtag": rim()}, "--support-log", log, *anchored(place)) == code


def test_a_rim_without_its_log_is_refused_and_says_which(place):
    assert code_of(place, {"box.swidtag": rim()}, *anchored(place)) == "support-log-needed"


@pytest.mark.parametrize(
    "made",
    [
        agile_event(7, int(T.EFI_ACTION), b"said", digests=[(SHA256_ID, sha256(b"hashed").digest())]),
        b"not an event",
    ],
)
def test_a_listed_log_that_is_unsound_is_refused(place, made):
    log = agile_log(made, header=HEADER)
    (place / "bad.rimel").write_bytes(log)
    text = forge.tag(forge.listed("bad.rimel", log), meta=forge.RIM)

    found = code_of(place, {"box.swidtag": rim(text)}, "--support-log", place / "bad.rimel", *anchored(place))

    assert found == "support-log-unsound"


def test_a_log_of_sha1_alone_is_refused(place):
    log = agile_log(agile_event(0, int(T.SEPARATOR), bytes(4), digests=[(4, bytes(20))]), header=spec_id([(4, 20)]))
    (place / "old.rimel").write_bytes(log)
    text = forge.tag(forge.listed("old.rimel", log), meta=forge.RIM)

    found = code_of(place, {"box.swidtag": rim(text)}, "--support-log", place / "old.rimel", *anchored(place))

    assert found == "support-log-weak"


# --- Whose word counts ---


def test_an_unsigned_manifest_is_refused(place):
    data = {"box.swidtag": RIM.format(signature="").encode()}

    assert code_of(place, data, "--support-log", place / "box.rimel", *anchored(place)) == "manifest-unsigned"


def test_an_unsigned_manifest_that_is_asked_for_is_called_so_beside_every_value(place):
    data = {"box.swidtag": RIM.format(signature="").encode()}

    _, report, text = run(place, data, "--support-log", place / "box.rimel", "--unsigned")

    values = [line for line in text.splitlines() if line.strip().startswith(("- digest", "- text"))]
    assert all("NOT SIGNED" in line for line in values)
    assert ("NOBODY VOUCHES FOR IT" in text, report["vouched"]) == (True, False)


def test_a_signed_manifest_without_anybody_who_may_sign_is_refused(place):
    assert code_of(place, {"box.swidtag": rim()}, "--support-log", place / "box.rimel") == "anchor-needed"


def test_a_signature_by_a_stranger_is_refused(place):
    data = rim(plan=forge.STRANGER, issuer=forge.STRANGER)

    found = code_of(place, {"box.swidtag": data}, "--support-log", place / "box.rimel", *anchored(place))

    assert found.startswith("chain-")


def test_a_signer_whose_certificate_has_expired_is_refused_and_was_good_before(place):
    data = rim(plan=forge.EXPIRED)
    options = ("--support-log", place / "box.rimel", *anchored(place))

    assert code_of(place, {"box.swidtag": data}, *options) == "chain-expired"
    assert run(place, {"box.swidtag": data}, *options, "--at", str(forge.AT - 100 * DAY))[0] == 0


def test_a_changed_manifest_is_refused_even_where_nobody_needs_to_vouch(place):
    data = rim().replace(b'version="2.0"', b'version="2.1"')
    options = ("--support-log", place / "box.rimel")

    assert code_of(place, {"box.swidtag": data}, *options, *anchored(place)) == "rim-signature"
    assert code_of(place, {"box.swidtag": data}, *options, "--unsigned") == "rim-signature"


def test_a_signature_over_sha1_counts_for_nothing(place):
    data = rim(method=f"{forge.MORE}ecdsa-sha1")

    found = code_of(place, {"box.swidtag": data}, "--support-log", place / "box.rimel", *anchored(place))

    assert found == "manifest-weak-hash"


def test_a_given_key_vouches_without_any_certificate(place):
    data = forge.signed_tag(RIM, forge.SIGNER.key)
    public = forge.SIGNER.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (place / "maker.pem").write_bytes(public)

    _, report, _ = run(place, {"box.swidtag": data}, "--support-log", place / "box.rimel", "--key", place / "maker.pem")

    assert report["vouched"] is True


def test_another_key_vouches_for_nothing(place):
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    (place / "other.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    found = code_of(place, {"box.swidtag": rim()}, "--support-log", place / "box.rimel", "--key", place / "other.pem")

    assert found == "rim-signature"


# --- Files ---


def test_files_of_a_signed_tag_may_be_measured_at_their_paths(place):
    text = forge.tag(
        forge.listed("sh", b"a shell", directory="/usr/bin") + forge.listed("x", b"x", directory="relative")
    )

    _, report, yaml = run(place, {"box.swidtag": rim(text)}, *anchored(place))

    allowed = dict(parse_profile_yaml(yaml).runtime.allow)
    assert allowed == {"/usr/bin/sh": (("sha256", sha256(b"a shell").digest()),)}
    assert [one["why"] for one in report["left_out"]] == ["no absolute path"]
    assert report["judges"] is False


@pytest.mark.parametrize("path", ["/usr/../etc", "/usr//bin", "/usr/./bin"])
def test_a_path_that_no_kernel_writes_is_left_out(place, path):
    text = forge.tag(forge.listed("sh", b"a shell", directory=path))

    assert code_of(place, {"box.swidtag": rim(text)}, *anchored(place)) == "manifest-inexpressible"


def test_a_signed_coswid_is_imported_and_so_is_one_in_a_corim(place):
    software = forge.coswid(("ls", b"list"))
    alone = forge.cose(
        cbor2.dumps(cbor2.CBORTag(1398229316, software)), forge.SIGNER.key, certificates=[forge.certificate()]
    )
    inside = forge.cose(forge.corim((505, software)), forge.SIGNER.key, certificates=[forge.certificate()])

    first = run(place, {"a.coswid": alone}, *anchored(place), output="a.yaml")[2]
    second = run(place, {"b.corim": inside}, *anchored(place), output="b.yaml")[2]

    allowed = [parse_profile_yaml(text).runtime.allow for text in (first, second)]
    assert allowed == [(("/usr/bin/ls", (("sha256", sha256(b"list").digest()),)),)] * 2


def test_files_that_a_tool_found_are_no_makers_word(place):
    software = forge.coswid(("ls", b"list"))
    software[3] = {**software.pop(6), 35: 0}
    data = forge.cose(forge.corim((505, software)), forge.SIGNER.key, certificates=[forge.certificate()])

    assert code_of(place, {"b.corim": data}, *anchored(place)) == "manifest-inexpressible"


# --- Measurements ---

VALUE = sha256(b"a register").digest()
DIGEST = {2: [[1, VALUE]]}


def imported(place, comid, *options, **fields):
    data = forge.cose(forge.corim((506, comid), **fields), forge.SIGNER.key, certificates=[forge.certificate()])
    return run(place, {"box.corim": data}, *anchored(place), *options)


@pytest.mark.parametrize("name", ["PCR4", "pcr 4", "PCR[4]", "tpm-pcr-4"])
def test_a_measurement_that_names_a_register_is_its_reference_value(place, name):
    _, report, text = imported(place, forge.comid((name, DIGEST)))

    assert parse_profile_yaml(text).registers[0].values == (("sha256", VALUE),)
    assert (report["pcrs"], "# ACME: acme-box v3 (box.corim)" in text) == ({"4": 1}, True)


def test_a_number_is_a_register_where_the_manifests_profile_says_so(place):
    comid = {1: {0: "a tag"}, 4: {0: [[{0: {0: cbor2.CBORTag(37, bytes(16))}}, [{0: 4, 1: DIGEST}]]]}}
    profile = cbor2.CBORTag(32, "tag:github.com/parallaxsecond,2023-03-03:tpm")

    assert imported(place, comid, f3=profile)[1]["pcrs"] == {"4": 1}


def test_a_number_is_nothing_else_until_somebody_says_that_it_is_a_register(place):
    comid = forge.comid((4, DIGEST))

    assert imported(place, comid)[1]["code"] == "manifest-inexpressible"
    assert imported(place, comid, "--numbers-are-registers")[1]["pcrs"] == {"4": 1}


def test_integrity_registers_are_registers_where_they_are_named_so(place):
    comid = forge.comid(("PCRs", {14: {0: [[1, VALUE]], 7: [[1, VALUE]]}}))

    assert imported(place, comid)[1]["pcrs"] == {"0": 1, "7": 1}


def test_a_measurement_that_names_a_claim_is_an_accepted_digest(place):
    _, _, text = imported(place, forge.comid(("attestd:loader", DIGEST)))

    assert parse_profile_yaml(text).by_claim["loader"].accepts("sha256", VALUE, value=None)


LEFT_OUT = {
    "an unknown name": ("bootloader", DIGEST, "nothing says which register"),
    "the runtime register": ("PCR10", DIGEST, "the runtime list decides"),
    "an untouched register": ("PCR0", {2: [[1, bytes(32)]]}, "all zero"),
    "a hash that no bank has": ("PCR4", {2: [[10, VALUE]]}, "no bank has this hash"),
    "a version": ("PCR4", {1: 7}, "without a digest"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_a_profile_cannot_say_is_left_out_and_told(place, name):
    key, values, why = LEFT_OUT[name]

    exit_code, report, _ = imported(place, forge.comid(("PCR1", DIGEST), (key, values)))

    assert (exit_code, report["pcrs"]) == (0, {"1": 1})
    assert any(why in one["why"] for one in report["left_out"])


def test_a_condition_on_who_signed_the_evidence_is_not_dropped(place):
    comid = forge.comid(("PCR4", DIGEST))
    comid[4][0][0][1][0][2] = [cbor2.CBORTag(554, "a key")]

    assert imported(place, comid)[1]["code"] == "manifest-inexpressible"


def test_of_several_environments_one_has_to_be_chosen(place):
    comid = forge.comid(("PCR4", DIGEST))
    comid[4][0].append([{0: {1: "ACME", 2: "Crate"}}, [{0: "PCR4", 1: {2: [[1, bytes(31) + b"1"]]}}]])

    assert imported(place, comid)[1]["code"] == "environment-ambiguous"
    assert imported(place, comid, "--environment", "Barrel")[1]["code"] == "environment-unknown"
    _, _, text = imported(place, comid, "--environment", "Crate")
    assert parse_profile_yaml(text).registers[0].values == (("sha256", bytes(31) + b"1"),)


@pytest.mark.parametrize(
    ("validity", "code"),
    [
        ({1: cbor2.CBORTag(1, forge.AT - 1)}, "manifest-expired"),
        ({0: cbor2.CBORTag(1, forge.AT + 9), 1: cbor2.CBORTag(1, forge.AT + 99)}, "manifest-not-yet-valid"),
    ],
)
def test_a_manifest_outside_of_its_own_time_is_refused(place, validity, code):
    error = imported(place, forge.comid(("PCR4", DIGEST)), f4=validity)[1]

    assert error["code"] == code
    assert f"it is {in_words(forge.AT)}" in error["message"]


def test_an_unsigned_corim_is_refused(place):
    data = forge.corim((506, forge.comid(("PCR4", DIGEST))))

    assert code_of(place, {"box.corim": data}, *anchored(place)) == "manifest-unsigned"


def test_an_altered_digest_breaks_the_signature(place):
    data = forge.cose(
        forge.corim((506, forge.comid(("PCR4", DIGEST)))), forge.SIGNER.key, certificates=[forge.certificate()]
    )
    altered = data.replace(VALUE, VALUE[::-1])
    assert altered != data

    assert code_of(place, {"box.corim": altered}, *anchored(place)) == "corim-signature"


def test_a_certificate_in_the_header_vouches_only_by_an_anchor(place):
    data = forge.cose(
        forge.corim((506, forge.comid(("PCR4", DIGEST)))), forge.STRANGER.key, certificates=[make(forge.STRANGER)]
    )

    assert code_of(place, {"box.corim": data}, *anchored(place)).startswith("chain-")


def test_json_is_no_manifest(place):
    assert code_of(place, {"box.json": b'{"corim-id": "x"}'}, *anchored(place)) == "manifest-unknown"


def test_nothing_is_overwritten(place):
    (place / "out.yaml").write_text("mine")
    exit_code, error, text = imported(place, forge.comid(("PCR4", DIGEST)))

    assert (exit_code, error["code"], text) == (1, "file-exists", "mine")


# --- Onto a profile ---

BASE = """\
# My own words.
profile: "edge"   # a class
version: 3
claims:
  # of the loader
  loader:
    check: required
    complete: true
    accept:
      - digest: sha256:{old}  # the old shim
        note: old
  gpt: {{check: ignored}}  # kept
pcrs:
  4: [sha256:{old}]  # before
  15: ignored  # open
runtime:
  check: optional
  exclude: ["/tmp/*"]
  allow:
    /usr/bin/ls: [sha256:{old}]  # before
    /usr/bin/cp: [sha256:{old}]  # stays
tiers:
  gpt: warning
""".format(old="11" * 32)


def onto(place, *options, base=BASE):
    (place / "base.yaml").write_text(base)
    comid = forge.comid(("PCR4", DIGEST), ("PCR15", DIGEST), ("attestd:loader", DIGEST), ("attestd:gpt", DIGEST))
    payload = forge.corim((506, comid), (505, forge.coswid(("ls", b"list"), ("new", b"new"))))
    data = forge.cose(payload, forge.SIGNER.key, certificates=[forge.certificate()])
    return run(place, {"box.corim": data}, *anchored(place), "--onto", place / "base.yaml", *options)


def test_onto_a_profile_it_is_the_next_version_and_what_was_accepted_stays_so(place):
    _, _, text = onto(place)

    profile = parse_profile_yaml(text)
    assert (profile.name, profile.version) == ("edge", 4)
    assert len(profile.by_claim["loader"].accept) == 2
    assert [len(one.values) for one in profile.registers] == [2, 0]
    assert {path: len(digests) for path, digests in profile.runtime.allow} == {
        "/usr/bin/cp": 1,
        "/usr/bin/ls": 2,
        "/usr/bin/new": 1,
    }


def test_replaced_values_are_accepted_no_longer(place):
    _, report, text = onto(place, "--replace")

    profile = parse_profile_yaml(text)
    assert [rule.digest for rule in profile.by_claim["loader"].accept] == [("sha256", VALUE)]
    assert profile.by_claim["loader"].complete is True
    assert profile.registers[0].values == (("sha256", VALUE),)
    assert any("not any longer" in note for note in report["notes"])


def test_what_the_profile_ignores_stays_ignored_and_is_told(place):
    _, report, text = onto(place)

    profile = parse_profile_yaml(text)
    assert (profile.by_claim["gpt"].check, profile.registers[1].values) == ("ignored", ())
    assert sum("profile" in one["why"] for one in report["left_out"]) == 2


def test_a_claim_that_gives_way_is_told(place):
    _, report, text = onto(place)

    assert parse_profile_yaml(text).by_claim["loader"].complete is False
    assert any("no longer complete" in note for note in report["notes"])
    assert "no longer complete" in text


def test_what_people_wrote_into_a_profile_stays(place):
    _, _, text = onto(place)

    for words in ("# My own words.", "# a class", "# of the loader", "# the old shim", "# kept", "# open", "# stays"):
        assert words in text


FLOW = """\
profile: edge
version: 3
claims: {{loader: {{check: required, accept: [{{digest: "sha256:{old}"}}]}}}}
pcrs: {{15: ignored}}
""".format(old="11" * 32)


@pytest.mark.parametrize("base", [FLOW, "{profile: edge, version: 3, pcrs: {15: ignored}}"])
def test_a_profile_whose_keys_are_not_on_lines_of_their_own_is_refused(place, base):
    exit_code, error, _ = onto(place, base=base)

    assert (exit_code, error["code"]) == (1, "profile-layout")


def test_a_profile_without_any_of_it_gets_all_of_it(place):
    _, _, text = onto(place, base="profile: edge\nversion: 3\ntiers:\n  gpt: warning\n")

    profile = parse_profile_yaml(text)
    assert (len(profile.claims), len(profile.registers), len(profile.runtime.allow)) == (2, 2, 2)


def test_a_person_sees_what_is_left_out_and_who_signed(place):
    payload = forge.corim((506, forge.comid(("PCR4", DIGEST), ("stray", DIGEST))))
    data = forge.cose(payload, forge.SIGNER.key, certificates=[forge.certificate()])
    (place / "box.corim").write_bytes(data)
    arguments = [str(place / "box.corim"), "-o", str(place / "p.yaml"), "--at", str(forge.AT)]

    done = CliRunner().invoke(app, ["profile", "import", *arguments, "--anchors", str(place / "anchors.pem")])

    assert (
        done.exit_code,
        "left out: ACME Box stray" in done.output,
        "signed by CN=ACME RIM signer" in done.output,
    ) == (
        0,
        True,
        True,
    )


def test_e06_a_manifest_of_any_size_is_refused_at_once(place):
    with (place / "huge").open("wb") as file:
        file.truncate(100 << 20)

    done = CliRunner().invoke(app, ["profile", "import", str(place / "huge"), "-o", str(place / "p.yaml"), "--json"])

    assert (done.exit_code, json.loads(done.stderr)["error"]["code"]) == (1, "manifest-size")


def test_an_event_in_no_firmware_register_is_no_reason_to_fail(place):
    log = log_of([*honest_boot(), event(23, T.EVENT_TAG, b"what nobody knows")])
    (place / "odd.rimel").write_bytes(log)
    text = forge.tag(forge.listed("odd.rimel", log), meta=forge.RIM)

    _, report, _ = run(place, {"box.swidtag": rim(text)}, "--support-log", place / "odd.rimel", *anchored(place))

    assert report["claims"]["unknown-event"] == 1
