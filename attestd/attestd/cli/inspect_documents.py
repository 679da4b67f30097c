"""How reports on makers' and verifiers' documents look on a terminal: platform certificates, manifests, results."""

import json
from typing import TYPE_CHECKING

from attestd.cli.answer import show_fields, show_line, show_table
from attestd.cli.inspect_show import day, heading, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from attestd.inspection.authority import Verdict
    from attestd.inspection.corim import CorimReport
    from attestd.inspection.ear import EarReport
    from attestd.inspection.platform import PlatformReport
    from attestd.inspection.rim import RimReport
    from attestd.inspection.swid import CoswidReport

_SHOWN = 200


def judged(console: "Console", reasons: "Iterable[tuple[str, str]]", notes: "Iterable[str]") -> None:
    """Print every reason against a document, and what should be known of it."""
    for code, message in reasons:
        show_line(console, f"✗ {message} [{code}]", style="red")
    for note in notes:
        show_line(console, f"! {note}", style="yellow")


def show_platform(console: "Console", report: "PlatformReport") -> None:
    """Show a platform certificate: its verdict, what it is about, what the machine is built of."""
    from attestd.inspection.certificates import name_of

    one = report.certificate
    platform = dict(report.platform)
    named = " ".join(filter(None, (platform.get("manufacturer"), platform.get("model"))))
    verdict(console, report.outcome, f"platform certificate of {named or 'an unnamed platform'}")
    judged(console, report.reasons, report.notes)
    fields = [(name.replace("_", " "), value) for name, value in report.platform]
    show_fields(
        console,
        [
            *fields,
            *((f"holder's {name}", value) for name, value in report.holder),
            ("issuer", one.issuer.text),
            ("serial", f"{one.serial:x}"),
            ("valid", f"{day(one.not_before)} to {day(one.not_after)}"),
            ("attributes", ", ".join(report.attributes) or None),
            ("path", " ← ".join(name_of(link) for link in report.chain) or None),
        ],
    )
    heading(console, "Components")
    columns = ("class", "manufacturer", "model", "serial", "revision", "status")
    rows = [
        (part.component_class, part.manufacturer, part.model, part.serial, part.revision, part.status or None)
        for part in report.components
    ]
    show_table(console, columns, rows, empty="It lists none.")
    if report.properties:
        heading(console, "Properties")
        show_fields(console, report.properties)


def show_ear(console: "Console", report: "EarReport") -> None:
    """Show an attestation result: its verdict, each attester's status and vector, the other claims."""
    what = "token" if report.outcome == "parsed" else "attestation result"
    verdict(console, report.outcome, f"{what} ({report.kind})")
    judged(console, report.reasons, report.notes)
    if report.signature_valid is not None:
        held = report.signature_valid
        show_line(console, "✓ signature" if held else "✗ signature", style="green" if held else "red")
    for name, status, vector in report.submods:
        heading(console, f"{name or 'the attester'}: {status}")
        show_table(
            console, ("claim", "value", "which is"), [(c, v, _tier(v)) for c, v in vector], empty="It has no vector."
        )
    heading(console, "Other claims")
    rest = {name: value for name, value in report.claims.items() if name != "submods"}
    show_fields(console, [(name, _text(value)) for name, value in rest.items()])


def _tier(value: int) -> str:
    from attestd.inspection.ear import TIERS, tier_of

    return next(name for name, tier in TIERS.items() if tier == tier_of(value))


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def show_rim(console: "Console", report: "RimReport") -> None:
    """Show a reference manifest: its verdict, who signed, what it says of the platform, the files it lists."""
    named = next((f"{tag.name} {tag.version or ''}".strip() for tag in report.tags if tag.name), "unnamed software")
    verdict(console, "accepted" if report.accepted else "refused", f"reference manifest ({report.kind}): {named}")
    judged(console, report.reasons, report.notes)
    _signature(console, report.verdict, report.signer)
    show_fields(console, [*report.fields, *report.links])
    for tag in report.tags:
        heading(console, f"{tag.name or 'a tag'} {tag.version or ''}  {tag.identity}")
        show_fields(console, [("entity", entity) for entity in tag.entities])
        _show_files(console, tag)


def show_corim(console: "Console", report: "CorimReport") -> None:
    """Show a CoRIM: its verdict, who signed, and what its tags say of which environment."""
    verdict(console, "accepted" if report.accepted else "refused", f"{report.kind} {report.identity}")
    judged(console, report.reasons, report.notes)
    _signature(console, report.verdict, report.signer)
    fields = [("profile", report.profile), *(("entity", entity) for entity in report.entities)]
    fields += [
        (name, day(value)) for name, value in zip(("from", "until"), report.validity, strict=True) if value is not None
    ]
    show_fields(console, [*fields, *(("builds on", rim) for rim in report.rims)])
    for one in report.comids:
        heading(console, f"CoMID {one.identity}: {', '.join(f'{count} {name}' for name, count in one.triples)}")
        show_table(
            console, ("triple", "environment", "says"), one.statements, empty="Its triples are not shown one by one."
        )
    for tag in report.coswids:
        heading(console, f"CoSWID {tag.name} {tag.version or ''}  {tag.identity}")
        _show_files(console, tag)
    for name, tags in report.lists:
        heading(console, f"List of tags {name}: active together")
        show_table(console, ("tag",), [(one,) for one in tags], empty="It lists none.")


def _show_files(console: "Console", tag: "CoswidReport") -> None:
    rows = [(one.path, one.kind, one.size, ", ".join(one.hashes)) for one in (*tag.files, *tag.found)]
    show_table(console, ("file", "kind", "bytes", "hash"), rows, empty="It lists no files.")


def _signature(console: "Console", verdict: "Verdict | None", signer: str | None) -> None:
    if verdict is None:
        return
    if verdict.valid is not None:
        held = f"{'✓' if verdict.valid else '✗'} signature by {signer or 'a key without a name'}"
        show_line(
            console, f"{held}{', vouched for' if verdict.vouched else ''}", style="green" if verdict.valid else "red"
        )
    elif signer is not None:
        show_line(console, f"· says to be signed by {signer}", style="dim")
    for deviation in verdict.deviations:
        show_line(console, f"! {deviation}", style="yellow")
