"""What the agent costs a device: the time until it can work, memory, bytes on the wire."""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import Line

from attestd.protocol import codec
from attestd_agent.lab.device import SoftwareDevice
from attestd_agent.lab.manufacturer import Manufacturer
from attestd_agent.lab.swtpm import SoftwareTpm
from softchip import SoftChip

# The kernel's own high-water mark of this address space: ru_maxrss would carry over the parent's memory from before exec.
_RESIDENT = """
import attestd_agent.run
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


_QUOTE = """
import sys
from attestd_agent.tpm_esys import EsysTpm
EsysTpm(sys.argv[1]).quote(bytes(32), bank="sha256", pcrs=tuple(range(15)))
"""
_TOOLS = ("swtpm", "swtpm_setup", "swtpm_localca")


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
        *_first_quote(),
    ]


def _first_quote() -> list[Line]:
    """Measure from the start of an interpreter to the first quote of a software TPM, which has to make its key anew."""
    if any(shutil.which(tool) is None for tool in _TOOLS):
        return []
    with tempfile.TemporaryDirectory(prefix="b-") as directory:
        place = Path(directory) / "device"
        place.mkdir()
        tpm = SoftwareTpm(place, Manufacturer(Path(directory) / "maker", "Bench"), banks=("sha256",)).manufacture()
        try:
            device = SoftwareDevice("device", tpm)
            device.boot()
            taken = min(_seconds(_QUOTE, device.tcti) for _ in range(5))
        finally:
            tpm.close()
    return [Line("agent: start to first quote (software TPM, key made anew)", 1000 * taken, "ms", n=5)]


def _seconds(code: str, *arguments: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
    return time.perf_counter() - begin
