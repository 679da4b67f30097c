"""GUIDs as UEFI stores them, as text.

The first three groups are little-endian numbers (UEFI 2.10, appendix A). Logs hold dozens of them and databases thousands, which is
why none is made into an object first.
"""


def guid_text(data: bytes) -> str:
    """Return the usual form, in lower case. *Assumes* 16 bytes."""
    return f"{data[3::-1].hex()}-{data[5:3:-1].hex()}-{data[7:5:-1].hex()}-{data[8:10].hex()}-{data[10:].hex()}"
