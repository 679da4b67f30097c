"""`attestd profile simulate` and `attestd profile shadow`: what a version says of the devices there are, before it counts."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attestd.cli import failures
from attestd.cli.answer import answer, show_line
from attestd.cli.failures import CommandFailed
from attestd.cli.options import Directory, Json
from attestd.cli.session import verifier_at
from attestd.cli.text import counted

if TYPE_CHECKING:
    from attestd.appraisal.policy import Profile, Tier
    from attestd.services.simulate import Group, Report, Trial, Variant

Device = Annotated[
    str | None, typer.Option(help="Only this device: a name, or the beginning of an id.", show_default=False)
]
Examples = Annotated[int, typer.Option(min=0, max=10_000, help="Devices that are named for each group.")]

_SHOWN_FINDINGS = 4
_SHOWN_VARIANTS = 5
_WORDS = {
    "refused": ("would be refused", "red"),
    "warned": ("would only be warned about", "yellow"),
    "untold": ("cannot be told", "yellow"),
    "trusted": ("would become trusted", "green"),
    "unchanged": ("unchanged", ""),
}
_TIERS = {"affirming": "trusted", "warning": "warned about", "contraindicated": "refused", "none": "refused"}


def simulate(
    file: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="The draft, in YAML.", show_default=False)
    ] = None,
    alone: Annotated[bool, typer.Option("--alone", help="As if every other version were retired.")] = False,
    retire: Annotated[
        list[int] | None,
        typer.Option("--retire", min=1, help="As if this version were retired; repeat for more.", show_default=False),
    ] = None,
    all_of: Annotated[
        str | None, typer.Option("--all-of", help="Devices of this profile; default: the draft's.", show_default=False)
    ] = None,
    device: Device = None,
    examples: Examples = 3,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Hold a draft against the newest proof of every device: who would be refused, and why. Nothing is changed.

    Exit code 1 where a device would be refused or warned about that is not now.
    """
    from attestd.cli.drafts import read_profile
    from attestd.services import simulate as service

    draft = None if file is None else read_profile(file)[0]
    name = all_of or (None if draft is None else draft.name)
    if name is None or (draft is None and not retire and not alone):
        raise typer.BadParameter("name a draft, or --all-of PROFILE with --retire VERSION")
    with verifier_at(directory) as verifier:
        with verifier.store.read() as connection:
            book = verifier.policy.book(connection)
        trial = service.trial_of(verifier, book, name, draft=draft, alone=alone, retire=retire or ())
        report = service.simulate(
            verifier, trial, book=book, device_id=device, examples=examples, progress=progress_on_stderr()
        )
    refused = None if draft is None else service.obstacle(book, draft)
    tell(report, as_json=as_json, note="" if refused is None else f"As it is, it cannot be activated: {refused}")


def shadow(
    name: Annotated[str, typer.Argument(help="The profile's name.", show_default=False)],
    version: Annotated[int, typer.Argument(min=1, help="A staged version.", show_default=False)],
    device: Device = None,
    examples: Examples = 3,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Show what a staged version says of every device: as if it were the only active one. Exit codes as of `simulate`."""
    from attestd.services import simulate as service

    with verifier_at(directory) as verifier:
        with verifier.store.read() as connection:
            book = verifier.policy.book(connection)
        staged = [one for one in verifier.policy.staged(book, name) if one.version == version]
        if not staged:
            raise CommandFailed("policy-unknown", f"no version {version} of {name} is staged: attestd profile list")
        trial = service.Trial(name, verifier.policy.profiles(book, name), (staged[0],))
        report = service.simulate(
            verifier, trial, book=book, device_id=device, examples=examples, progress=progress_on_stderr()
        )
    tell(report, as_json=as_json)


def progress_on_stderr() -> Callable[[int], None]:
    """Return what says on a terminal how far a long look has come, once a second."""
    from attestd import clock

    last = clock.monotonic()
    counts = sys.stderr.isatty()

    def told(count: int) -> None:
        nonlocal last
        if clock.monotonic() - last >= 1.0:
            last = clock.monotonic()
            # On a terminal one line that counts; elsewhere a line each, for whoever reads it later.
            print(f"looked at {count} devices …", end="\r" if counts else "\n", file=sys.stderr, flush=True)

    return told


def tell(report: "Report", *, as_json: bool, note: str = "") -> None:
    """Print a report, and a note if there is one, and end with the report's exit code."""

    def render(console: Any) -> None:
        _show(console, report)
        if note:
            show_line(console, note, style="yellow")

    answer({**document(report), "note": note or None}, render, as_json=as_json)
    if not report.harmless:
        raise typer.Exit(failures.REFUSED)


def document(report: "Report") -> dict[str, Any]:
    """Return a report as a JSON value."""
    trial = report.trial
    return {
        "profile": trial.name,
        "before": [one.version for one in trial.before],
        "after": [{"profile": one.name, "version": one.version, "sha256": one.digest.hex()} for one in trial.after],
        "devices": report.devices,
        "counts": dict(report.counts),
        "out_of_service": report.out_of_service,
        "ungrouped": report.ungrouped,
        "groups": [_group_document(one) for one in report.ordered()],
    }


def _group_document(group: "Group") -> dict[str, Any]:
    from attestd.appraisal.explain import explain
    from attestd.services.records import finding_document

    return {
        "effect": group.effect,
        "before": None if group.before is None else group.before.name.lower(),
        "after": None if group.after is None else group.after.name.lower(),
        "cause": group.cause,
        "version": None if group.profile is None else group.profile.version,
        "devices": group.devices,
        "boots": len(group.boots),
        "others": group.others,
        "variants": [
            {
                "devices": variant.devices,
                "examples": list(variant.examples),
                "findings": [
                    {**finding_document(one), "sentence": explain(one, profile=group.profile)}
                    for one in variant.findings
                ],
            }
            for variant in group.largest
        ],
    }


def _show(console: Any, report: "Report") -> None:
    show_line(console, _headline(report.trial, report.devices), style="bold")
    for group in report.ordered():
        word, style = _WORDS[group.effect]
        boots = f" ({len(group.boots)} different boots)" if len(group.boots) > 1 else ""
        single = len(group.variants) == 1 and not group.others
        named = _named(group.largest[0]) if single else ""
        show_line(console, f"{group.devices:>7}  {word}{_change(group)}{boots}{named}", style=style)
        for line in _reasons(group) if single else _variants(group):
            show_line(console, f"         {line}")
    if report.ungrouped:
        show_line(console, f"{report.ungrouped:>7}  more, for reasons of their own (counted below)")
    if report.out_of_service:
        show_line(console, f"{report.out_of_service:>7}  left out: banned or retired", style="dim")
    counted = ", ".join(f"{report.counts[effect]} {_WORDS[effect][0]}" for effect in report.counts)
    show_line(console, f"In all: {counted}.", style="bold")


def _named(variant: "Variant") -> str:
    return f"; e.g. {', '.join(variant.examples)}" if variant.examples else ""


def _headline(trial: "Trial", devices: int) -> str:
    return (
        f"{counted(devices, 'device')} of {trial.name}: {_versions(trial.before)} now, {_versions(trial.after)} then."
    )


def _versions(profiles: "tuple[Profile, ...]") -> str:
    return " or ".join(f"{one.name} v{one.version}" for one in profiles) or "no active version"


def _change(group: "Group") -> str:
    if group.effect == "unchanged":
        return f": {_standing(group.after)} as now"
    return f" ({_standing(group.before)} now)"


def _standing(tier: "Tier | None") -> str:
    return "not judged" if tier is None else _TIERS[tier.name.lower()]


def _reasons(group: "Group") -> list[str]:
    """Return why the devices of a group fare as they do, where the same was measured in all of them."""
    from attestd.services.kept import UNTOLD

    if group.cause is not None:
        return [f"{UNTOLD[group.cause]} [{group.cause}]"]
    return _findings(group, group.largest[0])


def _variants(group: "Group") -> list[str]:
    lines: list[str] = []
    shown = 1 if group.effect == "unchanged" else _SHOWN_VARIANTS
    for variant in group.largest[:shown]:
        lines.append(f"{variant.devices} of them{_named(variant)}")
        lines += [f"  {line}" for line in _findings(group, variant)]
    rest = group.others + sum(variant.devices for variant in group.largest[shown:])
    return [*lines, f"{rest} of them, where other values were measured"] if rest else lines


def _findings(group: "Group", variant: "Variant") -> list[str]:
    from attestd.appraisal.explain import explain

    lines = [
        f"{one.code.value} {one.claim}: {explain(one, profile=group.profile)}"
        for one in variant.findings[:_SHOWN_FINDINGS]
    ]
    more = len(variant.findings) - _SHOWN_FINDINGS
    return [*lines, f"and {more} more: --json shows all"] if more > 0 else lines
