from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from attestd.store import ProposalConflict, Store, bounds, changes
from attestd.store.changes import ChangeRecord

FIRST = ChangeRecord(1, "rules", "rules", b'{"rules":[]}', bytes(32), "alice", 1_000, ("signature a",))


def propose(store: Store, change: ChangeRecord = FIRST) -> None:
    with store.write() as connection:
        changes.insert_proposal(connection, change)


def apply(store: Store, sequence: int = 1) -> None:
    with store.write() as connection:
        changes.apply_change(connection, sequence, now=2_000)


def test_a_proposal_gathers_signatures_and_is_applied(store: Store) -> None:
    propose(store)
    with store.write() as connection:
        assert changes.open_proposal(connection) == FIRST
        assert changes.load_changes(connection, 0) == ()
        assert changes.add_signature(connection, 1, "signature b") == ("signature a", "signature b")
        assert changes.add_signature(connection, 1, "signature b") == ("signature a", "signature b")
        changes.apply_change(connection, 1, now=2_000)
    with store.read() as connection:
        applied = replace(FIRST, signatures=("signature a", "signature b"), applied_at=2_000)
        assert changes.load_changes(connection, 0) == (applied,)
        assert changes.load_change(connection, 1) == applied
        assert changes.load_changes(connection, 1) == ()
        assert changes.open_proposal(connection) is None


def test_changes_are_loaded_in_their_order(store: Store) -> None:
    for sequence in range(1, 6):
        propose(store, replace(FIRST, sequence=sequence))
        apply(store, sequence)
    with store.read() as connection:
        assert [change.sequence for change in changes.load_changes(connection, 2, limit=2)] == [3, 4]


@pytest.mark.parametrize("sequence", [0, 2, 3])
def test_a_proposal_that_is_not_the_next_is_refused(store: Store, sequence: int) -> None:
    with pytest.raises(ProposalConflict):
        propose(store, replace(FIRST, sequence=sequence))


def test_there_is_one_open_proposal(store: Store) -> None:
    propose(store)
    with pytest.raises(ProposalConflict):
        propose(store, replace(FIRST, subject="another"))
    with pytest.raises(ProposalConflict):
        propose(store, replace(FIRST, sequence=2))
    with store.write() as connection:
        assert changes.withdraw_proposal(connection, 1)
        assert not changes.withdraw_proposal(connection, 1)
    propose(store, replace(FIRST, subject="another"))


def test_a_change_is_applied_once(store: Store) -> None:
    propose(store)

    def attempt(_: int) -> bool:
        try:
            apply(store)
        except ProposalConflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(attempt, range(4))) == [False, False, False, True]


def test_p02_an_applied_change_takes_no_signature_and_is_not_withdrawn(store: Store) -> None:
    propose(store)
    apply(store)
    with pytest.raises(ProposalConflict), store.write() as connection:
        changes.add_signature(connection, 1, "signature b")
    with store.write() as connection:
        assert not changes.withdraw_proposal(connection, 1)


def test_signatures_given_at_the_same_time_are_all_kept(store: Store) -> None:
    propose(store)

    def sign(number: int) -> None:
        with store.write() as connection:
            changes.add_signature(connection, 1, f"signature {number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(sign, range(8)))
    with store.read() as connection:
        proposal = changes.open_proposal(connection)
    assert proposal is not None
    assert len(proposal.signatures) == 9


def test_signatures_are_bounded(store: Store) -> None:
    full = tuple(map(str, range(bounds.MAX_SIGNATURES)))
    propose(store, replace(FIRST, signatures=full))
    with pytest.raises(ProposalConflict), store.write() as connection:
        changes.add_signature(connection, 1, "one more")
