import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from attestd.changes import bounds
from attestd.changes.errors import ChangeRefused
from attestd.changes.operators import parse_operators, verify_approval, verify_approvals
from attestd.changes.statement import NAMESPACE, statement
from changes_world import EMPTY, Person, activate_on, allowed, operators

ALICE, BOB, CAROL, MALLORY = (Person(name) for name in ("alice", "bob", "carol@example.com", "mallory"))
THREE = operators(ALICE, BOB, CAROL, threshold=2)
CHANGE = activate_on(EMPTY, "edge", 1)


def refusal(*signatures: str, people: object = THREE) -> str:
    with pytest.raises(ChangeRefused) as caught:
        verify_approvals(CHANGE, signatures, people)  # type: ignore[arg-type]
    return caught.value.code


# --- Approvals ------------------------------------------------------------------------------------------------------------


def test_two_operators_of_three_approve_a_change() -> None:
    assert verify_approvals(CHANGE, [CAROL.sign(CHANGE), ALICE.sign(CHANGE)], THREE) == ("alice", "carol@example.com")


def test_more_than_enough_is_fine() -> None:
    assert len(verify_approvals(CHANGE, [person.sign(CHANGE) for person in (ALICE, BOB, CAROL)], THREE)) == 3


def test_p02_one_approver_where_two_are_needed_is_refused() -> None:
    assert refusal(ALICE.sign(CHANGE)) == "approval-threshold"
    assert refusal() == "approval-threshold"


def test_p02_a_proposers_own_approval_counts_once() -> None:
    assert CHANGE.proposed_by == ALICE.name
    assert refusal(ALICE.sign(CHANGE), ALICE.sign(CHANGE)) == "approval-duplicate"
    assert verify_approvals(CHANGE, [ALICE.sign(CHANGE), BOB.sign(CHANGE)], THREE) == ("alice", "bob")


def test_p02_two_keys_of_one_operator_count_once() -> None:
    second = Person("alice")
    people = operators(ALICE, second, BOB, threshold=2)
    assert refusal(ALICE.sign(CHANGE), second.sign(CHANGE), people=people) == "approval-duplicate"
    assert verify_approvals(CHANGE, [second.sign(CHANGE), BOB.sign(CHANGE)], people) == ("alice", "bob")


@pytest.mark.parametrize("field", ["sequence", "subject", "body", "previous", "proposed_by", "proposed_at"])
def test_p02_an_approval_of_another_change_is_refused(field: str) -> None:
    others = {
        "sequence": 2,
        "subject": "x",
        "body": b"{}",
        "previous": bytes(32),
        "proposed_by": "bob",
        "proposed_at": 9,
    }
    replayed = BOB.sign(replace(CHANGE, **{field: others[field]}))  # type: ignore[arg-type]
    assert refusal(ALICE.sign(CHANGE), replayed) == "approval-invalid"


def test_p02_a_stranger_is_refused_even_beside_enough_operators() -> None:
    signatures = [person.sign(CHANGE) for person in (ALICE, BOB, MALLORY)]
    assert refusal(*signatures) == "approval-unknown-operator"


def test_signatures_are_bounded() -> None:
    assert refusal(*[ALICE.sign(CHANGE)] * (bounds.MAX_SIGNATURES + 1)) == "approval-invalid"


def test_one_approval_is_verified_before_it_is_stored() -> None:
    assert verify_approval(CHANGE, BOB.sign(CHANGE), THREE) == "bob"
    with pytest.raises(ChangeRefused) as caught:
        verify_approval(CHANGE, MALLORY.sign(CHANGE), THREE)
    assert caught.value.code == "approval-unknown-operator"


def test_an_approval_made_by_ssh_keygen_counts(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(BOB.pem)
    (tmp_path / "key").chmod(0o600)
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(tmp_path / "key"), "-n", NAMESPACE]
    made = subprocess.run(command, input=statement(CHANGE), capture_output=True, check=True).stdout.decode()
    assert verify_approvals(CHANGE, [made, ALICE.sign(CHANGE)], THREE) == ("alice", "bob")


def test_ssh_keygen_verifies_an_approval_made_here_with_the_same_list(tmp_path: Path) -> None:
    (tmp_path / "operators").write_text(allowed(ALICE, BOB, options=f'namespaces="{NAMESPACE}"'))
    (tmp_path / "signature").write_text(BOB.sign(CHANGE))
    command = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "operators"), "-I", "bob", "-n", NAMESPACE]
    done = subprocess.run(
        [*command, "-s", str(tmp_path / "signature")], input=statement(CHANGE), capture_output=True, text=False
    )
    assert done.returncode == 0, done.stderr


# --- An operator who left ---------------------------------------------------------------------------------------------------


def test_a_key_counts_only_for_changes_proposed_in_its_validity() -> None:
    text = allowed(ALICE) + allowed(BOB, options='valid-after="20260101Z",valid-before="202607011200Z"')
    people = parse_operators(text, threshold=2)

    def outcome(at: int) -> object:
        change = replace(CHANGE, proposed_at=at)
        try:
            return verify_approvals(change, [ALICE.sign(change), BOB.sign(change)], people)
        except ChangeRefused as error:
            return error.code

    first, end = 1_767_225_600_000, 1_782_907_200_000
    no, yes = "approval-unknown-operator", ("alice", "bob")
    assert [outcome(at) for at in (first - 1, first, end - 1, end)] == [no, yes, yes, no]


# --- The list -----------------------------------------------------------------------------------------------------------------


def test_comments_and_empty_lines_are_passed_over() -> None:
    text = f"# operators\n\n  \n{allowed(ALICE)}#{allowed(BOB)}"
    assert parse_operators(text, threshold=1).principals == ("alice",)


def test_a_line_for_another_namespace_is_not_an_operators() -> None:
    text = allowed(ALICE, options='namespaces="git,file"') + allowed(BOB, options=f'namespaces="git,{NAMESPACE}"')
    assert parse_operators(text, threshold=1).principals == ("bob",)


@pytest.mark.parametrize(
    "line",
    [
        f"* {ALICE.public}",
        f"alice,bob {ALICE.public}",
        f'"alice smith" {ALICE.public}',
        f"alice cert-authority {ALICE.public}",
        f'alice no-touch-required="x" {ALICE.public}',
        f'alice namespaces="a",namespaces="b" {ALICE.public}',
        f'alice valid-before="20260101" {ALICE.public}',
        f'alice valid-before="tomorrow" {ALICE.public}',
        f'alice namespaces="a {ALICE.public}',
        f"alice ssh-rsa {ALICE.public.split()[1]}",
        "alice ssh-ed25519 AAAA",
        "alice ssh-ed25519 !!!!",
        "alice ssh-ed25519",
        "alice",
        f"alice ssh-ed25519 {ALICE.public.split()[1]}AAAA",
    ],
    ids=lambda line: line[:12],  # no key of this run: every worker must collect the same names
)
def test_a_line_that_is_not_understood_is_refused_with_its_number(line: str) -> None:
    with pytest.raises(ChangeRefused, match="line 2") as caught:
        parse_operators(f"{allowed(BOB)}{line}\n", threshold=1)
    assert caught.value.code == "operators-malformed"


def test_p02_one_key_under_two_names_is_refused() -> None:
    with pytest.raises(ChangeRefused, match="twice") as caught:
        operators(ALICE, replace(ALICE, name="bob"), threshold=2)
    assert caught.value.code == "operators-malformed"


@pytest.mark.parametrize("threshold", [-1, 0, 3])
def test_a_threshold_that_nobody_or_everybody_could_meet_is_refused(threshold: int) -> None:
    with pytest.raises(ChangeRefused, match="threshold"):
        operators(ALICE, BOB, threshold=threshold)


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(ChangeRefused, match="threshold"):
        parse_operators("", threshold=1)


def test_the_list_is_bounded() -> None:
    with pytest.raises(ChangeRefused, match="lines"):
        parse_operators("#\n" * (bounds.MAX_OPERATOR_LINES + 1), threshold=1)
