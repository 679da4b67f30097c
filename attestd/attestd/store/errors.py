"""How the store says no. No exception of a driver or of SQLAlchemy's operational kind leaves this package.

Every error means that the transaction it was raised in has changed nothing.
"""


class StoreError(Exception):
    """Whatever the store refuses or cannot do. `code` is stable and meant for machines."""

    code = "store"


class StoreUnavailable(StoreError):
    """The database cannot be reached, is locked for too long, or ended the transaction (deadlock). Trying again may help."""

    code = "store-unavailable"


class StoreConflict(StoreError):
    """A constraint of the schema refuses the row: somebody else was first, or a row that it points at is missing."""

    code = "store-conflict"


class StaleState(StoreConflict):
    """The device's row is not at the version that the caller decided on."""

    code = "stale-state"


class NameTaken(StoreConflict):
    """Another device has this tunnel name."""

    code = "name-taken"


class VpnKeyInUse(StoreConflict):
    """The key was issued before, to this or another device; a VPN key is used once."""

    code = "vpn-key-in-use"


class ProposalConflict(StoreConflict):
    """The change's place in the sequence is taken, not next, or already applied."""

    code = "proposal-conflict"


class AddressesExhausted(StoreError):
    """The pool has no address that is free and has cooled down."""

    code = "addresses-exhausted"


class SchemaMismatch(StoreError):
    """The database's schema is not the one this code was written for."""

    code = "schema-mismatch"
