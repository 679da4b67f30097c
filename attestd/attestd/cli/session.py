"""From a directory to a configuration and an open store. Everything heavy is imported here, inside the functions."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attestd.config import Configuration
    from attestd.services.context import Verifier
    from attestd.store import Store


def load(directory: Path | None) -> "Configuration":
    """Return the configuration of a directory. *Raises* UnsafeConfiguration."""
    from attestd import config

    return config.load(directory)


@contextmanager
def opened(configuration: "Configuration") -> Iterator["Store"]:
    """Open the store, which must have this version's schema. *Raises* UnsafeConfiguration, StoreError."""
    from attestd.errors import UnsafeConfiguration
    from attestd.safety import sqlite_file
    from attestd.store import Store

    file = sqlite_file(configuration)
    if file is not None and not file.is_file():
        raise UnsafeConfiguration("schema-old", f"there is no {file}: run `attestd migrate`")
    try:
        store = Store.open(configuration.database_url)
    except ValueError as error:
        raise UnsafeConfiguration("database-unknown", f"database: {error}") from None
    try:
        store.require_schema()
        yield store
    finally:
        store.close()


@contextmanager
def opened_at(directory: Path | None) -> Iterator["Store"]:
    """Open the store of a directory. *Raises* UnsafeConfiguration, StoreError."""
    with opened(load(directory)) as store:
        yield store


@contextmanager
def verifier_at(directory: Path | None) -> Iterator["Verifier"]:
    """Open the whole verifier of a directory. *Raises* UnsafeConfiguration, StoreError."""
    with verifier_of(load(directory)) as verifier:
        yield verifier


@contextmanager
def verifier_of(configuration: "Configuration") -> Iterator["Verifier"]:
    """Open the whole verifier, without serving: its store, its issuer, its policy. *Raises* UnsafeConfiguration, StoreError."""
    from attestd import app as wiring

    with opened(configuration):
        pass  # says what is wrong with the database in the operator's words
    verifier = wiring.build(configuration)
    try:
        yield verifier
    finally:
        verifier.store.close()
