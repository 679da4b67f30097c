"""What came true, as somebody sees it who is not the verifier: the machine itself, and a VPN gateway that asks.

Results and revocation lists are verified here with the keys that the verifier publishes, as any relying party would.
"""

import base64
import json
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from attestd import clock
from attestd.appraisal.ear import EarRefused, verify_ear
from attestd.cli.demo.stage import Answer, Machine, Stage
from attestd.cli.demo.telling import Step
from attestd.config import load

CAME_IN: Final = "trusted, with a certificate and a tunnel"
FELL: Final = "not trusted, certificate revoked, tunnel withdrawn"


def refusal(answer: Answer, claim: str = "") -> str:
    """Return what the machine was told, in a few words: the finding about `claim` if there is one, else the first."""
    outcome, code = str(answer.document.get("outcome")), str(answer.document.get("code"))
    if outcome == "waiting":
        return f"waits for a person: {code}"
    if outcome == code:
        return outcome
    found = _finding(answer, claim)
    return f"{outcome}: {found['code']} {found['claim']}" if found else f"{outcome}: {code}"


def reasons(answer: Answer, claim: str = "") -> tuple[str, ...]:
    """Return the component and the place of what failed, or the verifier's sentence where nothing was measured wrong."""
    found = _finding(answer, claim)
    if found is None:
        return (str(answer.document.get("detail", "")),)
    place = f"PCR {found['pcr']}, event {found['event']} of the boot log"
    others = len(answer.document["findings"]) - 1
    return (f"{found['component']}", place + (f"; and {others} more findings" if others else ""))


def _finding(answer: Answer, claim: str) -> dict[str, Any] | None:
    findings: list[dict[str, Any]] = answer.document.get("findings") or []
    return next((one for one in findings if one.get("claim") == claim), findings[0] if findings else None)


def trust(stage: Stage, machine: Machine, token: str) -> dict[str, Any]:
    """Return what the verifier tells a gateway of a machine. *Raises* OSError."""
    status, body = stage.ask(f"/v1/devices/{machine.device_id}/trust", token)
    document: dict[str, Any] = json.loads(body)
    return document if status == 200 else {"trusted": False, "state": document.get("code", status)}


def arrival(stage: Stage, machine: Machine, answer: Answer, token: str) -> Step:
    """Return whether a machine came in: trusted by the verifier's answer and by its signed result, with all credentials."""
    told = trust(stage, machine, token)
    parts = {
        "trusted": told["trusted"] and answer.exit_code == 0 and _affirming(stage, machine, told.get("result")),
        "certificate": bool(told.get("certificate_serial")),
        "tunnel": len(told.get("addresses") or ()) == 2,
    }
    if all(parts.values()):
        details = (f"WireGuard {', '.join(told['addresses'])}",)
        return Step(machine.name, CAME_IN, CAME_IN, answer.seconds, details)
    lacking = ", ".join(name for name, held in parts.items() if not held)
    return Step(machine.name, CAME_IN, f"{refusal(answer)} (lacks: {lacking})", answer.seconds, reasons(answer))


def _affirming(stage: Stage, machine: Machine, result: str | None) -> bool:
    """Verify the signed result (EAR) with the verifier's published key, as a gateway that was handed one does."""
    if not result:
        return False
    (key,) = json.loads(stage.ask("/v1/keys")[1])["keys"]
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
    issuer = f"spiffe://{load(stage.verifier).trust.domain}"
    now = clock.now_ms() // 1000
    try:
        verified = verify_ear(result, public, issuer=issuer, device_id=machine.device_id, now=now)
    except EarRefused:
        return False
    return verified.tier.name == "AFFIRMING"


def consequences(stage: Stage, machine: Machine, token: str, held: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return what is left of a machine's trust, and where a gateway sees it. `held` is what it had before."""
    told = trust(stage, machine, token)
    serial = held["certificates"][0]["serial"]
    now = stage.operate("device", "show", machine.device_id)
    left = {
        "still trusted": told["trusted"],
        "certificate not revoked": int(serial, 16) not in revoked(stage),
        "tunnel not withdrawn": bool(now["vpn_keys"]) or bool(told.get("addresses")),
    }
    if any(left.values()):
        return ", ".join(name for name, remains in left.items() if remains), ()
    return FELL, (
        f"GET /v1/devices/…/trust: trusted false, state {told['state']}",
        f"GET /v1/crl: {serial[:12]}… is on the list, signed by the fleet's authority",
        "the VPN key is withdrawn for good; its address stays reserved",
    )


def revoked(stage: Stage) -> frozenset[int]:
    """Return the serial numbers on the revocation list; none where its signature is not the authority's."""
    crl = x509.load_der_x509_crl(stage.ask("/v1/crl")[1])
    authority = x509.load_pem_x509_certificate((stage.verifier / "issuer" / "authority.pem").read_bytes())
    key = authority.public_key()
    if not isinstance(key, Ed25519PublicKey) or not crl.is_signature_valid(key):
        return frozenset()
    return frozenset(entry.serial_number for entry in crl)


def keys_of(shown: dict[str, Any]) -> frozenset[str]:
    """Return the certificate and the VPN keys that a device holds, by serial number and public key."""
    serials = {one["serial"] for one in shown["certificates"] if one["revoked_at"] is None}
    return frozenset(serials | {one["public_key"] for one in shown["vpn_keys"]})
