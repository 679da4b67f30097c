"""Signed changes through the command line: one operator, two operators, keys on other hosts, and whoever tries around them."""

import json
import sqlite3
import subprocess
from pathlib import Path

import pytest

from attestd.errors import Refused
from attestd.protocol.reasons import Reason
from fleet import Fleet
from installation import attestd
from world import golden_profile

pytest_plugins = ("fleet",)

RULES = [{"manufacturer": "id:*", "model": "*", "profile": "edge"}]


def rules_file(fleet: Fleet) -> Path:
    path = fleet.place / "rules.json"
    path.write_text(json.dumps(RULES))
    return path


@pytest.fixture
def two(empty_fleet: Fleet) -> Fleet:
    """A fleet that needs two of three operators; alice, bob and carol have keys made by ssh-keygen."""
    place = empty_fleet.place
    (place / "operators" / "development").unlink()
    lines = []
    for name, kind in (("alice", "ed25519"), ("bob", "ecdsa"), ("carol", "rsa")):
        key = place / name
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(key)], check=True)
        lines.append(f'{name} namespaces="attestd-change" {key.with_suffix(".pub").read_text()}')
    (place / "operators" / "allowed_signers").write_text("".join(lines))
    toml = place / "attestd.toml"
    toml.write_text(toml.read_text().replace("approvals = 1", "approvals = 2"))
    return empty_fleet


def test_one_operator_is_enough_where_one_is_asked_for(fleet: Fleet) -> None:
    change = fleet.done("rules", "import", rules_file(fleet))
    assert (change["approved_by"], change["approvals_missing"]) == (["development-operator"], 0)
    assert fleet.done("rules", "show")["rules"] == RULES


def test_one_of_two_operators_leaves_an_open_change_that_says_who_can_approve(two: Fleet) -> None:
    spoken = two.attestd("rules", "import", rules_file(two), "--key", two.place / "alice")
    assert spoken.exit_code == 0
    assert "waits for 1 more approval." in spoken.stdout
    assert "Any 1 of: bob, carol" in spoken.stdout
    assert two.done("rules", "show")["rules"] == []


def test_the_commands_for_an_open_change_name_the_verifier_that_this_one_named(two: Fleet) -> None:
    there = f"-d {two.place}"
    spoken = attestd("rules", "import", rules_file(two), "--key", two.place / "alice", "-d", two.place)
    for command in (
        f"show 1 {there} ",
        f"approve 1 {there} --key",
        f"export 1 {there} >",
        f"apply 1 {there} --signature",
    ):
        assert f"  attestd change {command}" in spoken.stdout


def test_second_operator_applies_it(two: Fleet) -> None:
    two.done("rules", "import", rules_file(two), "--key", two.place / "alice")
    change = two.done("change", "approve", "1", "--key", two.place / "bob")
    assert (change["approved_by"], change["approvals_missing"]) == (["alice", "bob"], 0)
    assert two.done("rules", "show")["rules"] == RULES


def test_p02_one_operator_twice_is_still_one(two: Fleet) -> None:
    two.done("rules", "import", rules_file(two), "--key", two.place / "alice")
    change = two.done("change", "approve", "1", "--key", two.place / "alice")
    assert (change["approved_by"], change["approvals_missing"]) == (["alice"], 1)
    assert two.done("rules", "show")["rules"] == []


def test_signature_made_on_another_host_is_added(two: Fleet) -> None:
    two.done("rules", "import", rules_file(two), "--key", two.place / "alice")
    statement = two.place / "change.txt"
    two.done("change", "export", "1", "-o", statement)
    sign = ["ssh-keygen", "-q", "-Y", "sign", "-n", "attestd-change", "-f", str(two.place / "carol"), str(statement)]
    subprocess.run(sign, check=True, capture_output=True)
    change = two.done("change", "apply", "1", "--signature", two.place / "change.txt.sig")
    assert change["approved_by"] == ["alice", "carol"]
    assert two.done("rules", "show")["rules"] == RULES


def test_exported_statement_is_exactly_what_is_signed(two: Fleet) -> None:
    two.done("rules", "import", rules_file(two), "--key", two.place / "alice")
    two.done("change", "export", "1", "-o", two.place / "change.txt")
    assert two.attestd("change", "export", "1").stdout.encode() == (two.place / "change.txt").read_bytes()


def test_p02_approval_of_another_change_is_refused(two: Fleet) -> None:
    two.done("rules", "import", rules_file(two), "--key", two.place / "alice")
    (two.place / "other.txt").write_bytes(
        two.attestd("change", "export", "1").stdout.replace("rules", "Rules").encode()
    )
    sign = ["ssh-keygen", "-q", "-Y", "sign", "-n", "attestd-change", "-f", str(two.place / "bob")]
    subprocess.run([*sign, str(two.place / "other.txt")], check=True, capture_output=True)
    spoken = two.attestd("change", "apply", "1", "--signature", two.place / "other.txt.sig")
    assert (spoken.exit_code, spoken.error) == (1, "approval-invalid")
    assert two.done("change", "show", "1")["approved_by"] == ["alice"]


def test_key_that_is_no_operators_is_refused_before_it_signs(two: Fleet) -> None:
    key = two.place / "mallory"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    spoken = two.attestd("rules", "import", rules_file(two), "--key", key)
    assert (spoken.exit_code, spoken.error) == (1, "key-unknown")
    assert two.done("change", "list")["changes"] == []


def test_open_change_can_be_withdrawn_and_blocks_others_until_then(two: Fleet) -> None:
    two.done("rules", "import", rules_file(two), "--key", two.place / "alice")
    spoken = two.attestd("rules", "import", rules_file(two), "--key", two.place / "bob")
    assert (spoken.exit_code, spoken.error) == (1, "change-open")
    two.done("change", "withdraw", "1")
    two.done("rules", "import", rules_file(two), "--key", two.place / "bob")
    assert [one["approved_by"] for one in two.done("change", "list")["changes"]] == [["bob"]]


def test_applied_change_cannot_be_withdrawn(fleet: Fleet) -> None:
    spoken = fleet.attestd("change", "withdraw", "1")
    assert (spoken.exit_code, spoken.error) == (1, "change-unknown")


def test_without_a_key_the_change_waits_for_everybody(two: Fleet) -> None:
    change = two.done("rules", "import", rules_file(two))
    assert (change["approved_by"], change["approvals_missing"]) == ([], 2)


def test_show_has_the_statement_and_the_document(fleet: Fleet) -> None:
    fleet.done("rules", "import", rules_file(fleet))
    shown = fleet.done("change", "show", "2")
    assert shown["document"] == {"rules": RULES}
    assert f"sha256: {shown['sha256']}" in shown["statement"].splitlines()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE change SET body = replace(CAST(body AS TEXT), 'required', 'ignored') WHERE sequence = 1",
        "UPDATE change SET signatures = '[]' WHERE sequence = 1",
        "DELETE FROM change WHERE sequence = 1",
        "UPDATE change SET subject = 'other' WHERE sequence = 2",
    ],
)
def test_p02_policy_changed_by_sql_is_believed_by_nobody(fleet: Fleet, statement: str) -> None:
    chip = fleet.trusted()
    with sqlite3.connect(fleet.place / "attestd.db") as connection:
        connection.execute(statement)
    connection.close()
    for command in (["profile", "list"], ["inventory", "list"], ["rules", "import", rules_file(fleet)]):
        spoken = fleet.attestd(*command)
        assert (spoken.exit_code, spoken.error) == (1, "policy-unapproved")
    with pytest.raises(Refused) as caught:
        fleet.enrol(chip)
    assert caught.value.reason is Reason.POLICY_UNAPPROVED


# --- Inventory --------------------------------------------------------------------------------------------------------


def inventory(fleet: Fleet, text: str, name: str = "fleet.csv") -> Path:
    path = fleet.place / name
    path.write_text(text)
    return path


def test_dry_run_shows_what_would_change_and_changes_nothing(fleet: Fleet) -> None:
    chip = fleet.chip()
    text = f"ek_public_sha256,name,site,profile\n{chip.ek_digest},edge-1,north,unheard-of\n"
    shown = fleet.done("inventory", "import", inventory(fleet, text), "--dry-run")
    assert [entry["effect"] for entry in shown["entries"]] == ["add"]
    assert shown["profiles_without_active_version"] == ["unheard-of"]
    assert fleet.done("inventory", "list")["entries"] == []


def test_inventory_in_json_and_by_certificate_file(fleet: Fleet) -> None:
    chip = fleet.chip()
    (fleet.place / "ek.der").write_bytes(chip.certificates[0])
    entry = {"ek_certificate": "ek.der", "name": "edge-1", "site": "north", "profile": "edge", "note": "rack 4"}
    fleet.done("inventory", "import", inventory(fleet, json.dumps([entry]), "fleet.json"))
    listed = fleet.done("inventory", "list")["entries"]
    assert [(one["device_id"], one["note"]) for one in listed] == [(chip.device_id, "rack 4")]
    fleet.enrol(chip)
    assert fleet.state(chip) == "trusted"


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("a.csv", "ek_public_sha256,name,site,profile\n00,edge-1,north,edge\n", "inventory-malformed"),
        ("a.csv", "ek_public_sha256,name,site\n", "inventory-malformed"),
        ("a.csv", f"device_id,name,site,profile\n{'a' * 51}r,edge-1,north,edge\n", "inventory-malformed"),
        ("a.json", "{}", "inventory-malformed"),
        ("a.xlsx", "", "inventory-malformed"),
        (
            "a.csv",
            f"ek_public_sha256,name,site,profile\n{'00' * 32},a,n,edge\n{'00' * 32},b,n,edge\n",
            "inventory-duplicate",
        ),
    ],
)
def test_inventory_that_is_not_one_is_refused_with_its_place(fleet: Fleet, name: str, text: str, code: str) -> None:
    spoken = fleet.attestd("inventory", "import", inventory(fleet, text, name))
    assert (spoken.exit_code, spoken.error) == (1, code)
    assert fleet.done("inventory", "list")["entries"] == []


def test_rename_reaches_the_device_that_exists(fleet: Fleet) -> None:
    chip = fleet.trusted("edge-1")
    fleet.announce(chip, "gate-7", site="south")
    shown = fleet.done("device", "show", chip.device_id)
    assert (shown["name"], shown["site"], shown["state"]) == ("gate-7", "south", "trusted")


# --- Profiles ---------------------------------------------------------------------------------------------------------


def test_draft_decides_nothing_until_it_is_activated(empty_fleet: Fleet) -> None:
    fleet = empty_fleet
    chip = fleet.chip()
    fleet.announce(chip)
    file = fleet.place / "golden.yaml"
    file.write_text(golden_profile(chip))
    fleet.done("profile", "add", file)
    assert [one["status"] for one in fleet.done("profile", "list")["profiles"]] == ["draft"]
    with pytest.raises(Refused) as caught:
        fleet.enrol(chip)
    assert caught.value.reason is Reason.POLICY_MISSING
    fleet.done("profile", "activate", "edge", "1")
    assert [one["status"] for one in fleet.done("profile", "list")["profiles"]] == ["active"]
    fleet.enrol(chip)


def test_e10_retired_version_is_refused_and_never_comes_back(fleet: Fleet) -> None:
    chip = fleet.trusted()
    fleet.done("profile", "retire", "edge", "1")
    assert isinstance(fleet.attest(chip), Refused)
    spoken = fleet.attestd("profile", "activate", "edge", "1")
    assert (spoken.exit_code, spoken.error) == (1, "policy-rollback")


def test_other_document_with_the_same_version_is_refused(fleet: Fleet) -> None:
    file = fleet.place / "other.yaml"
    file.write_text(golden_profile(fleet.chip()).replace("required", "optional"))
    spoken = fleet.attestd("profile", "add", file)
    assert (spoken.exit_code, spoken.error) == (1, "file-exists")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("profile: edge\nversion: 1\n", ""),
        ("profile: edge\nversion: 1\nclaimss: {}\n", "profile-malformed"),
        ("profile: ../edge\nversion: 1\n", "profile-malformed"),
        ("profile: .edge\nversion: 1\n", "label-malformed"),
        ("- just\n- a list\n", "profile-malformed"),
    ],
)
def test_check_refuses_what_is_not_a_profile_or_requires_nothing(fleet: Fleet, text: str, code: str) -> None:
    file = fleet.place / "checked.yaml"
    file.write_text(text)
    spoken = attestd("profile", "check", file)
    assert spoken.exit_code == 1
    assert spoken.error == code if code else "policy-empty" in spoken.stdout


def test_show_gives_what_was_signed(fleet: Fleet) -> None:
    assert fleet.done("profile", "show", "edge")["version"] == 1
    spoken = fleet.attestd("profile", "show", "nothing")
    assert (spoken.exit_code, spoken.error) == (1, "profile-unknown")


@pytest.mark.parametrize("name", ["../escaped", "..", "/etc/passwd", "a/b", "a\x00b", "~root"])
def test_t07_path_in_a_name_leads_nowhere(fleet: Fleet, name: str) -> None:
    file = fleet.place / "checked.yaml"
    file.write_text(golden_profile(fleet.chip()).replace("profile: edge", f"profile: {json.dumps(name)}"))
    before = {path for path in fleet.place.parent.rglob("*") if "attestd.db" not in path.name}
    for command in (
        ["profile", "add", file],
        ["profile", "activate", name, "1"],
        ["profile", "show", name],
        ["profile", "retire", name, "1"],
        ["token", "create", name, "--scope", "trust:read"],
        ["device", "show", name],
    ):
        spoken = fleet.attestd(*command)
        assert spoken.exit_code == 1
        assert len(spoken.stderr.splitlines()) == 1
    assert {path for path in fleet.place.parent.rglob("*") if "attestd.db" not in path.name} == before
