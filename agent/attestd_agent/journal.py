"""One line for each event, for a person's eye or, as JSON, for a machine's.

Text of others (a verifier's detail, a component's name) is quoted and stripped of what a terminal would obey (E11).
Assumes that no caller passes a secret: keys and sealed blobs have no business in an event.
"""

import json
import time
from typing import Final, TextIO

_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/+")


class Journal:
    """Writes events to a stream."""

    def __init__(self, stream: TextIO, *, as_json: bool, stamped: bool) -> None:
        """Write to `stream`; `stamped` puts the time before each line (JSON has it always)."""
        self._stream = stream
        self._as_json = as_json
        self._stamped = stamped

    def __call__(self, event: str, /, **fields: object) -> None:
        """Write one event; fields that are None or empty are left out."""
        kept = {name: value for name, value in fields.items() if value not in (None, "", ())}
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self._as_json:
            line = json.dumps({"time": now, "event": event, **kept}, default=str)
        else:
            stamp = [now] if self._stamped else []
            line = " ".join([*stamp, event, *(f"{name}={quoted(value)}" for name, value in kept.items())])
        print(line, file=self._stream, flush=True)


def quoted(value: object) -> str:
    """Return a value as one word: bare where it is plain, else in JSON's quotes with everything unprintable escaped."""
    text = str(value)
    return text if text and _PLAIN.issuperset(text) else json.dumps(text)
