"""`attestd log`: what happened, latest last, and as it happens. Text that devices chose is escaped (E11)."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attestd.cli.answer import STYLES, console
from attestd.cli.options import Directory, Json, duration
from attestd.cli.session import opened_at
from attestd.cli.text import moment, plain

if TYPE_CHECKING:
    from attestd.store import Store

POLL_SECONDS = 0.5
_PAGE = 200
_FINDINGS = 3


def log(
    device: Annotated[
        str | None, typer.Option(help="Only this device: a name, or the beginning of an id.", show_default=False)
    ] = None,
    since: Annotated[str, typer.Option(help="How far back: 90s, 15m, 12h, 30d.")] = "24h",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as things happen, until Ctrl-C.")] = False,
    routine: Annotated[bool, typer.Option("--routine", help="Also every proof, whatever came of it.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The latest so many.")] = 200,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Show changes of state, refusals, and what staged profiles would refuse, latest last. With --json one object on each line."""
    from attestd import clock
    from attestd.services import custody

    begin = clock.now_ms() - 1_000 * duration(since, option="--since")
    with opened_at(directory) as store:
        device_id = None
        if device is not None:
            with store.read() as connection:
                device_id = custody.find(connection, device).device_id
        seen: set[tuple[str, object]] = set()
        found = _entries(store, device_id, begin, routine=routine)
        _print(found[-limit:], seen, as_json=as_json)
        seen |= {_key(entry) for entry in found}
        while follow:
            time.sleep(POLL_SECONDS)
            # A little back in time: transactions of other processes end in another order than they began.
            found = _entries(store, device_id, max(begin, clock.now_ms() - 60_000), routine=routine)
            _print([entry for entry in found if _key(entry) not in seen], seen, as_json=as_json)


def _key(entry: dict[str, Any]) -> tuple[str, object]:
    return entry["kind"], entry["id"]


def _entries(store: "Store", device_id: str | None, begin: int, *, routine: bool) -> list[dict[str, Any]]:
    """Return what happened since `begin` (milliseconds), by time."""
    with store.read() as connection:
        found = [*_transitions(connection, device_id, begin), *_refusals(connection, device_id, begin)]
        found += _shadows(connection, device_id, begin)
        if routine:
            found += _attestations(connection, device_id, begin)
    return sorted(found, key=lambda entry: (entry["at_ms"], entry["kind"], entry["id"]))


def _paged(query: Any, connection: Any, begin: int, **filters: Any) -> Iterator[Any]:
    before = None
    while True:
        page = query(connection, before=before, limit=_PAGE, **filters)
        for row in page:
            if row.at < begin:
                return
            yield row
        if len(page) < _PAGE:
            return
        before = page[-1].id


def _transitions(connection: Any, device_id: str | None, begin: int) -> Iterator[dict[str, Any]]:
    from attestd.store import log as rows

    for row in _paged(rows.list_transitions, connection, begin, device_id=device_id):
        yield {
            "kind": "transition",
            "id": row.id,
            "at_ms": row.at,
            "device_id": row.device_id,
            "from": row.from_state,
            "to": row.to_state,
            "event": row.event,
            "actor": row.actor,
            "cause": row.cause,
        }


def _refusals(connection: Any, device_id: str | None, begin: int) -> Iterator[dict[str, Any]]:
    from attestd.store import log as rows

    for row in _paged(rows.list_refusals, connection, begin, device_id=device_id):
        yield {
            "kind": "refusal",
            "id": row.id,
            "at_ms": row.at,
            "device_id": row.device_id,
            "code": row.code,
            "route": row.route,
            "detail": row.detail,
        }


def _shadows(connection: Any, device_id: str | None, begin: int) -> Iterator[dict[str, Any]]:
    """Yield what staged versions say of devices that is not a pass."""
    from attestd.store import shadow

    for row in shadow.list_shadow(connection, device_id=device_id, since=begin):
        if row.outcome in ("fail", "warn"):
            yield {
                "kind": "shadow",
                "id": f"{row.device_id}/{row.profile}/{row.profile_version}/{row.since}",
                "at_ms": row.since,
                "device_id": row.device_id,
                "profile": row.profile,
                "profile_version": row.profile_version,
                "outcome": row.outcome,
                "findings": row.findings,
            }


def _attestations(connection: Any, device_id: str | None, begin: int) -> Iterator[dict[str, Any]]:
    from attestd.store import log as rows

    if device_id is None:
        found = _paged(rows.recent_attestations, connection, begin)
    else:
        found = _paged(lambda c, **page: rows.list_attestations(c, device_id, **page), connection, begin)
    for row in found:
        yield {
            "kind": "attestation",
            "id": row.id,
            "at_ms": row.at,
            "device_id": row.device_id,
            "proof": row.kind,
            "tier": row.tier,
            "state": row.state,
            "profile": row.profile,
            "profile_version": row.profile_version,
            "findings": row.findings,
        }


def _print(entries: list[dict[str, Any]], seen: set[tuple[str, object]], *, as_json: bool) -> None:
    import json

    from rich.text import Text

    out = None if as_json else console()
    for entry in entries:
        seen.add(_key(entry))
        if out is None:
            print(json.dumps(entry, ensure_ascii=True), flush=True)
        else:
            word, rest = _line(entry)
            line = Text(f"{moment(entry['at_ms'])}  {(entry['device_id'] or '-')[:12]:12}  ")
            line.append(f"{word:12}", style=STYLES.get(word, "red" if entry["kind"] == "refusal" else ""))
            out.print(line.append(f" {rest}"))


def _line(entry: dict[str, Any]) -> tuple[str, str]:
    """Return the word that matters and the rest of the line."""
    if entry["kind"] == "transition":
        came = f"was {entry['from']}" if entry["from"] else "new"
        return entry["to"], plain(
            f"{came}: {entry['event']} by {entry['actor']}  {cause_text(entry['cause'])}".rstrip()
        )
    if entry["kind"] == "refusal":
        return "refused", plain(f"{entry['code']}  {cause_text(entry['detail'])}".rstrip())
    profile = f"{entry['profile']} v{entry['profile_version']}" if entry["profile"] else "no profile"
    said = cause_text({"findings": entry["findings"]})
    if entry["kind"] == "shadow":
        return "in shadow", plain(f"{shadow_words(entry['outcome'])} by {profile}, which is staged  {said}".rstrip())
    return entry["tier"], plain(f"{entry['proof']} proof, {profile}  {said}".rstrip())


def shadow_words(outcome: str) -> str:
    """Return in words what a staged version says of a device."""
    words = {"pass": "would pass", "warn": "would be warned about", "fail": "would be refused"}
    return words.get(outcome, "cannot be told")


def cause_text(cause: Any) -> str:
    """Return a stored cause as one line for people: what failed and where, else names and values."""
    if not isinstance(cause, dict):
        return "" if cause is None else plain(cause)
    findings = [one for one in cause.get("findings") or () if isinstance(one, dict)]
    if findings:
        shown = "; ".join(plain(_brief(one)) for one in findings[:_FINDINGS])
        return shown if len(findings) <= _FINDINGS else f"{shown}; and {len(findings) - _FINDINGS} more"
    hidden = {"findings", "profile", "version"}
    return "; ".join(
        f"{name}: {plain(value)}" for name, value in cause.items() if name not in hidden and value not in (None, "")
    )


def _brief(finding: dict[str, Any]) -> str:
    return " ".join(str(finding[name]) for name in ("code", "claim") if finding.get(name)) + _place(finding)


def _place(finding: dict[str, Any]) -> str:
    words = [
        f"{word} {finding[name]}"
        for name, word in (("pcr", "PCR"), ("event", "event"))
        if finding.get(name) is not None
    ]
    return f" ({', '.join(words)})" if words else ""


def finding_lines(finding: Any) -> tuple[str, ...]:
    """Return one stored finding in full: what failed and where, the component, what was expected and what was measured."""
    if not isinstance(finding, dict):
        return (plain(finding),)
    lines = [_brief(finding)]
    component, actual = str(finding.get("component") or ""), str(finding.get("actual") or "")
    lines += [f"  {component}"] if component and component != finding.get("claim") else []
    lines += [f"  expected {finding['expected']}"] if finding.get("expected") else []
    lines += [f"  measured {actual}"] if actual and actual != component else []
    return tuple(plain(line) for line in lines)
