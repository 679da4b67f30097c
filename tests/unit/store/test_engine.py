from pathlib import Path

import pytest

from attestd.store import Store, errors


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory", "mysql://localhost/x", "oracle://x"]
)
def test_a_store_is_a_file_or_postgresql(url: str) -> None:
    with pytest.raises(ValueError, match="store is"):
        Store.open(url)


def test_opening_connects_to_nothing() -> None:
    store = Store.open("postgresql://nobody@127.0.0.1:1/none")
    assert store.dialect == "postgresql"
    store.close()


def test_an_existing_file_is_opened_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "attestd.db"
    for _ in range(2):
        store = Store.open(f"sqlite:///{path}")
        store.migrate()
        store.require_schema()
        store.close()


def test_every_error_has_a_code_of_its_own() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.StoreError)]
    assert len({kind.code for kind in kinds}) == len(kinds) == 9
