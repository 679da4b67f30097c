"""How reports on makers' and verifiers' documents look on a terminal: platform certificates, manifests, results."""

import json
from typing import TYPE_CHECKING

from attestd.cli.answer import show_fields, show_line, show_table
from attestd.cli.inspect_show import day, heading, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from attestd.inspection.ear import EarReport
    from attestd.inspection.platform import PlatformReport

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
    verdict(console, "accepted" if report.accepted else "refused", f"attestation result ({report.kind})")
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
