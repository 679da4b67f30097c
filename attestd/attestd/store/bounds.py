"""The bounds of the store, each with its reason.

Proves nothing. These limit waiting and page sizes; what limits a stranger's message is in `attestd.protocol.limits`.
"""

from typing import Final

BUSY_MILLISECONDS: Final = 5_000
"""Longest wait for a lock. A batch holds its locks for milliseconds; who waits longer than this is better told to come back."""
STATEMENT_MILLISECONDS: Final = 60_000
"""Longest statement on PostgreSQL: a listing over ten million rows ends within it, a forgotten cross join does not."""
IDLE_MILLISECONDS: Final = 60_000
"""A transaction in which nothing happens for a minute holds locks for nobody."""
WAL_PAGES: Final = 8_192
"""Pages of SQLite's write-ahead log (32 MiB) before they are copied into the file: hot pages are copied once, not eight times."""
CACHE_KIBIBYTES: Final = 65_536
"""SQLite's page cache for each connection: the hot rows of 100,000 devices and the inner pages of the rest."""
POOL_SIZE: Final = 8
"""Connections of each kind (reading, writing) in one process; PostgreSQL's default allows 100 in all."""
POOL_SECONDS: Final = 10.0
"""Longest wait for a free connection."""
MAX_PAGE: Final = 1_000
"""Rows of one listing."""
MAX_BATCH: Final = 1_024
"""Attestations in one commit. Gains end near 64; the bound keeps the time under lock short."""
MAX_SIGNATURES: Final = 64
"""Approvals kept with one change, good or not: nobody has more operators, and a row must not grow without end."""
MAX_ADDRESS_ATTEMPTS: Final = 8
"""Interface ids tried for one device. Two devices share 64 bits of SHA-256 once in 2^32 devices; eight times never."""
MAX_SIGNED: Final = 2**63 - 1
"""Largest integer of a column. A TPM's clock is wider on paper (64 bits unsigned), but not within 292 million years."""
