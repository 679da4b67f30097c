"""What is kept, and the only SQL of the project.

Proves nothing: a row is what somebody once wrote. Policy and inventory are therefore never believed because they stand
here; `attestd.changes` verifies them from their signatures. Assumes that a caller who appraises has loaded what it decides
on inside the transaction that stores the decision, or names the version it saw. Does not read a clock: every time is an
argument, in milliseconds since the epoch.
"""

from sqlalchemy import Connection

from attestd.store.engine import Store
from attestd.store.errors import (
    AddressesExhausted,
    NameTaken,
    ProposalConflict,
    SchemaMismatch,
    StaleState,
    StoreConflict,
    StoreError,
    StoreUnavailable,
    VpnKeyInUse,
)

__all__ = [
    "AddressesExhausted",
    "Connection",
    "NameTaken",
    "ProposalConflict",
    "SchemaMismatch",
    "StaleState",
    "Store",
    "StoreConflict",
    "StoreError",
    "StoreUnavailable",
    "VpnKeyInUse",
]
