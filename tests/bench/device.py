"""What the agent costs a device: the time until it can work, memory, bytes on the wire."""

import subprocess
import sys
import time

from report import Line

from attestd.protocol import codec
from softchip import SoftChip

# The kernel's own high-water mark of this address space: ru_maxrss would carry over the parent's memory from before exec.
_RESIDENT = """
import attestd_agent.run
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


def lines() -> list[Line]:
    """Measure in fresh interpreters; the interpreter's own start is taken off the import."""
    bare = min(_seconds("pass") for _ in range(7))
    loaded = min(_seconds("import attestd_agent.run") for _ in range(7))
    out = subprocess.run([sys.executable, "-c", _RESIDENT], capture_output=True, text=True, check=True).stdout
    chip = SoftChip(int(time.time()))
    body = len(codec.encode(chip.attest_request(bytes(40)), codec.CBOR))
    head = len(
        f"POST /v1/attest HTTP/1.1\r\nHost: verifier.example\r\nContent-Type: application/cbor\r\nContent-Length: {body}\r\n\r\n"
    )
    return [
        Line("agent: import", 1000 * (loaded - bare), "ms", target=250, n=7),
        Line("agent: resident memory after import", int(out) / 1024, "MB", target=45),
        Line(
            "agent: bytes of a routine attestation (request head and body, without TLS)", body + head, "B", target=1024
        ),
    ]


def _seconds(code: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begin
