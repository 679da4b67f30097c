"""Everything about one device on one page: who it is, what is believed of it and why, what it holds."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attestd.cli.answer import show_fields, show_line
from attestd.cli.record import cause_text, finding_lines, shadow_words
from attestd.cli.text import maker, moment

if TYPE_CHECKING:
    from rich.console import Console

    from attestd.store.addresses import AddressRecord
    from attestd.store.credentials import CertificateRecord, VpnKeyRecord
    from attestd.store.devices import LoadedDevice
    from attestd.store.log import RefusalRecord, TransitionRecord
    from attestd.store.shadow import ShadowRecord


@dataclass(frozen=True, slots=True)
class Dossier:
    """One device as the store knows it."""

    known: "LoadedDevice"
    certificates: "tuple[CertificateRecord, ...]"
    vpn_keys: "tuple[VpnKeyRecord, ...]"
    address: "AddressRecord | None"
    last_move: "TransitionRecord | None"
    refusals: "tuple[RefusalRecord, ...]"
    shadow: "tuple[ShadowRecord, ...]"


def collect(connection: Any, wanted: str) -> Dossier:
    """Return the dossier of the device with this name or beginning of an id. *Raises* Declined."""
    from attestd.services import custody
    from attestd.services.declined import Declined
    from attestd.store import addresses, credentials, devices, log, shadow

    device_id = custody.find(connection, wanted).device_id
    known = devices.load_device(connection, device_id)
    if known is None:
        raise Declined("device-unknown", "the device is gone: attestd device list")
    moves = log.list_transitions(connection, device_id=device_id, limit=1)
    return Dossier(
        known,
        credentials.list_certificates(connection, device_id, limit=5),
        credentials.active_vpn_keys(connection, device_id),
        addresses.load_address(connection, device_id),
        moves[0] if moves else None,
        log.list_refusals(connection, device_id=device_id, limit=3),
        shadow.list_shadow(connection, device_id=device_id),
    )


def document(found: Dossier) -> dict[str, Any]:
    """Return the dossier as a JSON value; times in seconds."""
    device, state = found.known.device, found.known.state
    return {
        "device_id": device.device_id,
        "name": device.name,
        "site": device.site,
        "state": state.state,
        "since": state.since // 1000,
        "deadline": _seconds(state.deadline),
        "tier": state.tier,
        "profile": state.profile,
        "profile_version": state.profile_version,
        "appraised_at": _seconds(state.appraised_at),
        "manufacturer": device.manufacturer,
        "model": device.model,
        "ek_deviations": list(device.ek_deviations),
        "labels": dict(device.labels),
        "reset_count": state.reset_count,
        "certificates": [
            {
                "serial": one.serial,
                "not_after": one.not_after // 1000,
                "revoked_at": _seconds(one.revoked_at),
                "reason": one.reason,
            }
            for one in found.certificates
        ],
        "vpn_keys": [{"kind": one.kind, "public_key": one.public_key.hex()} for one in found.vpn_keys],
        "addresses": [str(one) for one in found.address.addresses] if found.address else [],
        "cause": None if found.last_move is None else found.last_move.cause,
        "actor": None if found.last_move is None else found.last_move.actor,
        "refusals": [{"at": one.at // 1000, "code": one.code, "detail": one.detail} for one in found.refusals],
        "shadow": [
            {
                "profile": one.profile,
                "version": one.profile_version,
                "outcome": one.outcome,
                "since": one.since // 1000,
                "findings": one.findings,
            }
            for one in found.shadow
        ],
    }


def _seconds(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds // 1000


def show(console: "Console", found: Dossier) -> None:
    """Print the dossier."""
    from attestd.lifecycle.table import MEANINGS, State

    device, state = found.known.device, found.known.state
    meaning = MEANINGS[State(state.state)]
    profile = f"{state.profile} v{state.profile_version}" if state.profile else None
    show_fields(
        console,
        [
            ("device", device.device_id),
            ("name, site", f"{device.name or '-'}, {device.site or '-'}"),
            ("state", state.state),
            ("", meaning.text),
            ("since", moment(state.since)),
            *((("until", f"{moment(state.deadline)} unless it proves itself again"),) if state.deadline else ()),
            ("profile", profile),
            ("last proof", f"{moment(state.appraised_at)}, {state.tier}"),
            ("TPM", f"{maker(device.manufacturer)} {device.model or ''}".rstrip()),
            *(("", f"note: {text}") for text in device.ek_deviations),
            *((f"label {name}", text) for name, text in device.labels),
            ("certificate", _certificate(found)),
            ("tunnel", _tunnel(found)),
            *((f"shadow {one.profile} v{one.profile_version}", _shadow(one)) for one in found.shadow),
        ],
    )
    _show_cause(console, found)


def _certificate(found: Dossier) -> str:
    if not found.certificates:
        return "none was ever issued"
    latest = found.certificates[0]
    if latest.revoked_at is not None:
        return f"{latest.serial}, revoked {moment(latest.revoked_at)} ({latest.reason})"
    return f"{latest.serial}, until {moment(latest.not_after)}"


def _tunnel(found: Dossier) -> str:
    if not found.vpn_keys:
        return "no valid key"
    addresses = ", ".join(str(one) for one in found.address.addresses) if found.address else "no address"
    return f"{', '.join(one.kind for one in found.vpn_keys)}: {addresses}"


def _shadow(verdict: "ShadowRecord") -> str:
    """Return what a staged version says of the device, in words: it decides nothing."""
    why = cause_text({"findings": verdict.findings})
    return f"{shadow_words(verdict.outcome)} since {moment(verdict.since)}  {why}".rstrip()


def _show_cause(console: "Console", found: Dossier) -> None:
    move = found.last_move
    if move is None:
        return
    show_line(console, "")
    show_line(console, f"Why: {move.event} by {move.actor}, {moment(move.at)}", style="bold")
    cause = move.cause if isinstance(move.cause, dict) else {}
    for finding in cause.get("findings") or ():
        first, *rest = finding_lines(finding)
        show_line(console, f"  {first}")
        for line in rest:
            show_line(console, f"  {line}", style="dim")
    told = cause_text({name: value for name, value in cause.items() if name != "findings"})
    if told:
        show_line(console, f"  {told}")
    for refusal in found.refusals:
        show_line(console, f"  refused {moment(refusal.at)}: {refusal.code} {cause_text(refusal.detail)}", style="dim")
