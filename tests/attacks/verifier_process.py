"""A verifier in a process of its own, so that what strangers cost it can be measured from outside.

Run with the path of a database: makes one device trusted, says where it listens (one line of JSON), serves until its
standard input ends. What it logs goes to standard error.
"""

import json
import sys

from softchip import SoftChip
from world import World


def main(path: str) -> None:
    """Serve on a SQLite file that has the schema."""
    with World(f"sqlite:///{path}").listening() as fleet:
        gate = SoftChip(fleet.now_s)
        fleet.announce(gate)
        fleet.golden(gate, deadline=3600)
        fleet.enrol(gate)
        fleet.call("GET", "/v1/crl")  # the one list that is made because somebody asks
        print(json.dumps({"port": fleet.port, "device_id": gate.device_id}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
