"""The bounds of operator changes, each with its reason.

Proves nothing. What limits a profile or an inventory as such is in `attestd.protocol.limits`.
"""

from typing import Final

from attestd.protocol import limits

MAX_BODY: Final = 64 * limits.MIB
"""Bytes of one change's document: an inventory of 250,000 rows at 200 bytes."""
MAX_SEQUENCE: Final = 2**31 - 1
"""A change a second for 68 years."""
MAX_TIME: Final = 253402300799999
"""9999-12-31T23:59:59.999Z in milliseconds, the last instant that is written with four digits of year."""
MAX_SIGNATURE: Final = 16 * limits.KIB
"""Characters of one armored signature; RSA 4096 with its key needs 1.6 KiB."""
MAX_SIGNATURES: Final = 64
"""Signatures looked at for one change: more than any fleet has operators, and each costs a public-key operation."""
MAX_OPERATOR_LINES: Final = 1_000
"""Lines of the list of operators."""
MAX_RULES: Final = 1_000
"""Rules of admission, tried one after the other for each unannounced device."""
MAX_ACTIVE: Final = 16
"""Versions of one profile that are active at the same time; an appraisal may try each."""
MAX_STAGED: Final = 4
"""Versions of one profile that are staged at the same time; each is held against every device's evidence."""
MAX_NOTE: Final = 256
"""Characters of an inventory entry's note."""
MIN_RSA_BITS: Final = 2048
"""Weaker keys are refused (NIST SP 800-131A, 3)."""
