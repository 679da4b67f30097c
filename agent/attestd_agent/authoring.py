"""What a person needs of a reference machine: its identity for an inventory, its evidence for reference values.

Proves nothing to a verifier: the nonce is the device's own. An evidence directory holds what `attestd` reads when it
authors a profile; the names of its files are those that its readers expect. Nothing is sent.
"""

import csv
import io
import json
import re
import socket
from pathlib import Path
from typing import Any, Final

from attestd.protocol import limits
from attestd.protocol.messages import QuoteRequest
from attestd_agent import collect, identity
from attestd_agent.errors import ConfigurationError
from attestd_agent.proof import Sources
from attestd_agent.tpm import Tpm

INVENTORY_COLUMNS: Final = ("ek_public_sha256", "name", "site", "profile", "note")
_NO_LABEL: Final = re.compile(r"[^a-z0-9._-]+")

# tcg-at-tpmManufacturer (2.23.133.2.1) and a string "id:" with the vendor's code in hex (EK Credential Profile 2.5,
# 3.1.2). Looked for in the bytes: a third of real certificates is not strict DER, and nothing is decided here.
_MANUFACTURER: Final = re.compile(rb"\x06\x05\x67\x81\x05\x02\x01[\x0c\x13\x16].id:([0-9A-Fa-f]{8})", re.DOTALL)
_RANGE: Final = re.compile(r"([0-9]{1,2})(?:-([0-9]{1,2}))?")


def identity_of(tpm: Tpm) -> dict[str, Any]:
    """Return the device's id, its endorsement key's SHA-256, the TPM's manufacturer and the host's name.

    *Raises* TpmUnavailable, TpmRefused, StateDamaged.
    """
    ek_public = tpm.ek_public()
    certificates = tpm.ek_certificates()
    return {
        "device_id": identity.device_id(ek_public),
        "ek_public_sha256": identity.ek_digest(ek_public).hex(),
        "manufacturer": manufacturer(certificates[0]) if certificates else "",
        "ek_certificates": len(certificates),
        "hostname": socket.gethostname(),
    }


def manufacturer(certificate: bytes) -> str:
    """Return the vendor's code in an EK certificate as its letters ("IFX"), or as it stands ("id:00001014"), or ""."""
    match = _MANUFACTURER.search(certificate)
    if match is None:
        return ""
    code = match[1].decode("ascii").upper()
    letters = bytes.fromhex(code).rstrip(b"\0 ").decode("ascii", "replace")
    return letters if letters.isalnum() and letters.isascii() else f"id:{code}"


def inventory_row(document: dict[str, Any], *, name: str, site: str, profile: str) -> dict[str, str]:
    """Return one row of an inventory file; without a `name` the host's own becomes the label."""
    label = _NO_LABEL.sub("-", str(document["hostname"]).lower()).strip(".-_")[:63]
    return {
        "ek_public_sha256": str(document["ek_public_sha256"]),
        "name": name or label,
        "site": site,
        "profile": profile,
        "note": str(document["manufacturer"]),
    }


def inventory_csv(row: dict[str, str]) -> str:
    """Return a header and one line for an inventory file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, INVENTORY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerow(row)
    return text.getvalue()


def parse_registers(text: str) -> tuple[int, ...]:
    """Return the indices in "0-7,14", in rising order. *Raises* ConfigurationError."""
    indices: set[int] = set()
    for word in text.split(","):
        match = _RANGE.fullmatch(word.strip())
        if match is None:
            raise ConfigurationError(f"--pcrs {text!r}: write registers as in 0-7,14")
        first = int(match[1])
        indices.update(range(first, int(match[2] or first) + 1))
    if not indices or max(indices) >= limits.PCR_COUNT:
        raise ConfigurationError(f"--pcrs {text!r}: registers are 0 to {limits.PCR_COUNT - 1}")
    return tuple(sorted(indices))


def parse_nonce(text: str) -> bytes:
    """Return the bytes of a nonce in hex. *Raises* ConfigurationError."""
    try:
        nonce = bytes.fromhex(text)
    except ValueError:
        nonce = b""
    if not 0 < len(nonce) <= limits.MAX_NONCE:
        raise ConfigurationError(f"--nonce: write 1 to {limits.MAX_NONCE} bytes in hex")
    return nonce


def evidence(tpm: Tpm, asked: QuoteRequest, *, nonce: bytes, sources: Sources) -> dict[str, bytes]:
    """Return the files of an evidence directory by name.

    *Raises* TpmUnavailable, TpmRefused, OSError for a log that cannot be read.
    """
    quote = tpm.quote(nonce, bank=asked.bank, pcrs=asked.pcrs)
    runtime = collect.runtime_list(sources.ima_list, 0)
    values = {asked.bank: {str(index): value.hex() for index, value in quote.pcrs}}
    certificates = {f"nv_{number}.der": der for number, der in enumerate(tpm.ek_certificates())}
    return {
        "quote.attest": quote.attest,
        "quote.sig": quote.signature,
        "ak.tpm2b_public": tpm.ak_public(),
        "ek.tpm2b_public": tpm.ek_public(),
        "nonce.bin": nonce,
        "pcrs.json": json.dumps(values, indent=1).encode() + b"\n",
        "eventlog.bin": collect.event_log(sources.event_log),
        "ima.bin": b"" if runtime is None else runtime.entries,
        **certificates,
    }


def write_directory(path: Path, files: dict[str, bytes]) -> None:
    """Write an evidence directory that did not exist. *Raises* ConfigurationError."""
    try:
        path.mkdir(parents=True, mode=0o755)
        for name, content in files.items():
            (path / name).write_bytes(content)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
