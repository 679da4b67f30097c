"""The states of a device and its moves, as one table."""
