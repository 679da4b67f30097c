"""`attestd device`: what is believed of each device, since when and why; and what a person decides about one."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from attestd.cli import decision
from attestd.cli.answer import answer, show_fields, show_line, show_table
from attestd.cli.options import Directory, Json, Key
from attestd.cli.session import load, opened_at, verifier_of
from attestd.cli.text import maker, moment, plain, span

if TYPE_CHECKING:
    from attestd.services.custody import Moved
    from attestd.store.devices import DeviceSummary

commands = typer.Typer(no_args_is_help=True, help="Devices: list, show, history; approve, ban, unban, retire, readmit.")

Device = Annotated[str, typer.Argument(help="A name, or the beginning of an id.", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", help="Why: it is recorded with your name.", show_default=False)]
_LONGEST_REASON = 500


@commands.command("list")
def list_(
    state: Annotated[list[str] | None, typer.Option("--state", help="Only in this state; repeat for more.")] = None,
    site: Annotated[str | None, typer.Option(help="Only of this site.", show_default=False)] = None,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """List the devices."""
    from attestd import clock

    states = tuple(_known_state(one) for one in state or ())
    with opened_at(directory) as store, store.read() as connection:
        found = _all(connection, states, site)
    now = clock.now_ms()
    columns = ("device", "name", "site", "state", "for", "proved", "profile", "TPM")
    rows = [_row(device, now) for device in found]
    answer(
        {"devices": [_document(device) for device in found]},
        lambda console: show_table(console, columns, rows, empty="No device has shown itself yet."),
        as_json=as_json,
    )


def _known_state(text: str) -> str:
    from attestd.lifecycle.table import State

    try:
        return State(text).value
    except ValueError:
        raise typer.BadParameter(f"a state is one of {', '.join(State)}") from None


def _all(connection: Any, states: tuple[str, ...], site: str | None) -> "list[DeviceSummary]":
    from attestd.store import bounds, devices

    found: list[DeviceSummary] = []
    while True:
        after = found[-1].device_id if found else None
        page = devices.list_devices(connection, states=states, site=site, after=after, limit=bounds.MAX_PAGE)
        found += page
        if len(page) < bounds.MAX_PAGE:
            return found


def _row(device: "DeviceSummary", now: int) -> tuple[object, ...]:
    profile = None if device.profile is None else f"{device.profile} v{device.profile_version}"
    proved = None if device.appraised_at is None else f"{span((now - device.appraised_at) / 1000)} ago"
    held = span((now - device.since) / 1000)
    return (
        device.device_id[:12],
        device.name,
        device.site,
        device.state,
        held,
        proved,
        profile,
        maker(device.manufacturer),
    )


def _document(device: "DeviceSummary") -> dict[str, Any]:
    return {
        "device_id": device.device_id,
        "name": device.name,
        "site": device.site,
        "state": device.state,
        "since": device.since // 1000,
        "deadline": None if device.deadline is None else device.deadline // 1000,
        "tier": device.tier,
        "profile": device.profile,
        "profile_version": device.profile_version,
        "appraised_at": None if device.appraised_at is None else device.appraised_at // 1000,
        "manufacturer": device.manufacturer,
        "model": device.model,
    }


@commands.command("show")
def show(device: Device, directory: Directory = None, as_json: Json = False) -> None:
    """Show one device: who it is, what is believed of it, what it holds, and why."""
    from attestd.cli import dossier

    with opened_at(directory) as store, store.read() as connection:
        found = dossier.collect(connection, device)
    answer(dossier.document(found), lambda console: dossier.show(console, found), as_json=as_json)


@commands.command("history")
def history(
    device: Device,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="The latest so many.")] = 50,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Show how a device came to its state: every move, its cause, and who or what made it. Latest first."""
    from attestd.services import custody
    from attestd.store import log

    with opened_at(directory) as store, store.read() as connection:
        device_id = custody.find(connection, device).device_id
        moves = log.list_transitions(connection, device_id=device_id, limit=limit)
    document = [
        {
            "at": one.at // 1000,
            "from": one.from_state,
            "to": one.to_state,
            "event": one.event,
            "actor": one.actor,
            "cause": one.cause,
        }
        for one in moves
    ]
    answer(
        {"device_id": device_id, "history": document},
        lambda console: _show_history(console, moves),
        as_json=as_json,
    )


def _show_history(console: Any, moves: Any) -> None:
    from attestd.cli.record import cause_text

    for one in moves:
        way = f"{one.from_state} → {one.to_state}" if one.from_state else f"new → {one.to_state}"
        show_line(console, f"{moment(one.at)}  {way:24} {one.event} by {one.actor}")
        cause = cause_text(one.cause)
        if cause:
            show_line(console, f"                      {cause}", style="dim")


# --- Decisions ------------------------------------------------------------------------------------------------------


@commands.command("approve")
def approve(
    device: Device,
    name: Annotated[str, typer.Option(help="What it shall be called.", show_default=False)],
    site: Annotated[str, typer.Option(help="Where it stands.", show_default=False)],
    profile: Annotated[str, typer.Option(help="What it must look like.", show_default=False)],
    note: Annotated[str, typer.Option(help="For people.", show_default=False)] = "",
    key: Key = None,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Announce a device that waits: a signed change of the inventory. It comes in with its next proof, if that proof is good."""
    from attestd.changes.inventory import InventoryEntry, inventory_document
    from attestd.services import custody

    with opened_at(directory) as store, store.read() as connection:
        device_id = custody.find(connection, device).device_id
    body = inventory_document([InventoryEntry(device_id, name, site, profile, note)])
    said = f"Announced {device_id[:12]} as {plain(name)}"
    decision.make(directory, "inventory", "inventory", body=body, key=key, as_json=as_json, said=said)


@commands.command("ban")
def ban(device: Device, reason: Reason, directory: Directory = None, as_json: Json = False) -> None:
    """Shut a device out at once: certificates revoked, VPN keys withdrawn. No proof lifts a ban."""
    _decide("ban", device, reason, directory, as_json)


@commands.command("unban")
def unban(device: Device, reason: Reason, directory: Directory = None, as_json: Json = False) -> None:
    """Lift a ban. The device regains trust only by enrolling again with a good proof."""
    _decide("unban", device, reason, directory, as_json)


@commands.command("retire")
def retire(device: Device, reason: Reason, directory: Directory = None, as_json: Json = False) -> None:
    """Take a device out of service: like a ban, and its tunnel address goes to others after the cool-down."""
    _decide("retire", device, reason, directory, as_json)


@commands.command("readmit")
def readmit(device: Device, reason: Reason, directory: Directory = None, as_json: Json = False) -> None:
    """Forget a device's keys, so that it enrols anew: after a repair of its TPM's owner data, or out of retirement."""
    _decide("readmit", device, reason, directory, as_json)


def _decide(what: str, device: str, reason: str, directory: Any, as_json: bool) -> None:
    from attestd.services import custody

    if not reason.strip() or len(reason) > _LONGEST_REASON or not reason.isprintable():
        raise typer.BadParameter(f"a reason is one printable line of 1 to {_LONGEST_REASON} characters")
    with verifier_of(load(directory)) as verifier:
        moved = custody.decide(verifier, device, custody.DECISIONS[what], actor=_actor(), reason=reason.strip())
    answer(_moved_document(moved), lambda console: _show_moved(console, moved), as_json=as_json)


def _actor() -> str:
    """Return who runs this command, as the operating system knows it."""
    import os
    import pwd

    number = os.getuid()
    try:
        return f"user:{pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user:{number}"


def _moved_document(moved: "Moved") -> dict[str, Any]:
    return {
        "device_id": moved.device_id,
        "from": moved.before.value,
        "to": moved.after.value,
        "certificates_revoked": list(moved.revoked),
        "vpn_keys_withdrawn": moved.vpn_keys,
    }


def _show_moved(console: Any, moved: "Moved") -> None:
    from attestd.lifecycle.table import MEANINGS

    show_line(console, f"{moved.device_id[:12]} is {moved.after.value} (was {moved.before.value}).", style="bold")
    show_fields(
        console,
        [
            ("means", MEANINGS[moved.after].text),
            ("revoked", f"{len(moved.revoked)} certificate(s), {moved.vpn_keys} VPN key(s)"),
        ],
    )
