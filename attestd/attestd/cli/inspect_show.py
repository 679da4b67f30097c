"""How reports of `attestd inspect` look on a terminal: one look for the verdict, then the details.

Everything that a file says is escaped (`plain`) and is text, never markup.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from attestd.cli.answer import print_table, show_fields, show_line, show_table
from attestd.cli.text import counted, plain

if TYPE_CHECKING:
    from rich.console import Console

    from attestd.inspection.certificates import CertificateReport
    from attestd.inspection.difference import DifferenceReport
    from attestd.inspection.eventlog import LogReport
    from attestd.inspection.evidence import EvidenceReport
    from attestd.inspection.runtime import RuntimeReport
    from attestd.inspection.statements import StatementReport

_MARKS: Final = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("·", "dim")}
_STATES: Final = {"explained": "green", "unexplained": "bold red", "not-logged": "yellow"}
_VERDICTS: Final = {
    "accepted": "bold green",
    "trusted": "bold green",
    "parsed": "bold green",
    "untrusted": "bold yellow",
    "refused": "bold red",
    "same": "bold green",
    "different": "bold yellow",
}
_HUES: Final = ("cyan", "magenta", "blue", "green", "yellow", "bright_blue", "bright_magenta", "bright_cyan")
_SHOWN: Final = 400
_WORST: Final = 12


def verdict(console: "Console", outcome: str, text: str) -> None:
    """Print the verdict first, in its colour, and what it is about."""
    from rich.text import Text

    line = Text()
    line.append(f" {plain(outcome).upper()} ", style=f"reverse {_VERDICTS.get(outcome, 'bold')}")
    line.append(f" {plain(text, longest=2_000)}", style="bold")
    console.print(line, soft_wrap=not console.is_terminal)


def heading(console: "Console", text: str) -> None:
    """Print a heading with an empty line before it."""
    console.print()
    show_line(console, text, style="bold underline")


def show_log(console: "Console", report: "LogReport") -> None:
    """Show a boot log: its verdict, its events, its registers."""
    log = report.log
    wrong = sum(event.matches is False for event in report.events)
    verdict(
        console,
        "parsed" if report.reproduced else "refused",
        f"{log.format} event log, {len(log.events)} events, {', '.join(log.algorithms)}",
    )
    if report.fault is not None:
        show_line(console, f"{report.fault} [{report.fault.code}]", style="red")
    if log.startup_locality is not None:
        show_line(console, f"The log claims that TPM2_Startup came from locality {log.startup_locality}.")
    if wrong:
        show_line(
            console, f"The data of {counted(wrong, 'event')} does not hash to its digest: it was altered.", style="red"
        )
    elsewhere = [f"{one.bank} {one.pcr}" for one in report.registers if one.state == "unexplained"]
    if elsewhere:
        line = f"The log does not lead to what these registers hold: {', '.join(elsewhere)}. Why stands at the end."
        show_line(console, line, style="red")
    heading(console, "Events  (✓ the digest is that of the data, ✗ it is not, · it is of something outside the log)")
    _events(console, report)
    _values(console, report.pcrs)
    if report.registers:
        _registers(console, report)


def _events(console: "Console", report: "LogReport") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, right in (("#", True), ("PCR", True), ("type", False), ("", False), ("what it says", False)):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for event in report.events:
        mark, style = _MARKS[event.matches]
        pcr = str(event.pcr) if event.pcr < len(_HUES) * 3 else "-"
        table.add_row(
            Text(str(event.index), style="dim"),
            Text(pcr, style=_HUES[event.pcr % len(_HUES)]),
            Text(event.type.removeprefix("EV_"), style="dim"),
            Text(mark, style=style),
            Text(plain(event.summary, longest=_SHOWN), style="red" if event.matches is False else ""),
        )
    print_table(console, table)


def _values(console: "Console", pcrs: Iterable[tuple[str, tuple[tuple[int, str], ...]]]) -> None:
    for bank, values in pcrs:
        heading(console, f"What {bank} registers hold after it")
        show_table(console, ("PCR", "value"), [(pcr, value) for pcr, value in values], empty="Nothing is extended.")


def _registers(console: "Console", report: "LogReport") -> None:
    from rich.table import Table
    from rich.text import Text

    heading(console, "The given registers")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("bank", "PCR", "state", "why"):
        table.add_column(name, overflow="fold")
    for one in report.registers:
        why = one.parting.text if one.parting else ""
        if one.state == "unexplained" and not why:
            why = f"the log leads to {one.replayed}, the register holds {one.expected}; no single event tells why"
        if one.state == "not-logged":
            why = "it was extended, and the log has no event for it"
        table.add_row(Text(one.bank), Text(str(one.pcr)), Text(one.state, style=_STATES[one.state]), Text(plain(why)))
    print_table(console, table)


def show_runtime(console: "Console", report: "RuntimeReport") -> None:
    """Show a runtime list: its verdict, its counts, what its registers hold, and its worst entries."""
    entries = report.runtime.entries
    verdict(console, "parsed" if report.accepted else "refused", f"IMA runtime list, {len(entries)} entries")
    if report.reason is not None:
        show_line(console, f"{report.message} [{report.reason}]", style="red")
    templates = ", ".join(f"{name} ({count})" for name, count in report.templates[:_WORST])
    show_fields(
        console,
        [
            ("templates", templates or None),
            ("boot aggregate", report.boot_aggregate),
            ("violations", len(report.violations)),
            ("wrong template hashes", len(report.mismatches)),
            ("lines that are no entries", report.runtime.unreadable or None),
            ("signed by keys", ", ".join(f"{key} ({count})" for key, count in report.signers[:_WORST]) or None),
        ],
    )
    if report.buffers:
        heading(console, "Measured besides files")
        rows = [(one.index, one.name, one.text) for one in report.buffers]
        show_table(console, ("#", "what", "content"), rows, empty="")
    worst = [(index, "hash is not that of the data") for index in report.mismatches[:_WORST]]
    worst += [(index, "violation: the file could not be measured") for index in report.violations[:_WORST]]
    if worst:
        heading(console, "Entries to look at")
        marked = [(index, why, _path(entries[index].path)) for index, why in worst]
        show_table(console, ("#", "what", "path"), marked, empty="")
    if entries:
        _values(console, report.pcrs)


def _path(path: bytes | None) -> str | None:
    return None if path is None else path.decode("utf-8", "backslashreplace")


def show_certificate(console: "Console", report: "CertificateReport") -> None:
    """Show a certificate: its verdict and why, what it says, its path, and what is odd about it."""
    from attestd.inspection.certificates import key_text, name_of

    one, info = report.certificate, report.info
    verdict(console, report.outcome, name_of(one))
    for code, message in report.reasons:
        show_line(console, f"{message} [{code}]", style=_VERDICTS[report.outcome].removeprefix("bold "))
    show_fields(
        console,
        [
            ("chip", f"{info.manufacturer_name} {info.model}, firmware {info.firmware_version}" if info else None),
            ("purposes", ", ".join(report.purposes) or None),
            ("key", key_text(one)),
            ("issuer", one.issuer.text),
            ("serial", f"{one.serial:x}"),
            ("valid", f"{day(one.not_before)} to {day(one.not_after)}"),
            ("SHA-256", one.sha256.hex()),
        ],
    )
    heading(console, "Path")
    for depth, link in enumerate(report.chain):
        last = depth == len(report.chain) - 1 and report.outcome == "trusted"
        text = f"{'  ' * depth}{'└ ' if depth else ''}{name_of(link)}{'  (anchor)' if last else ''}"
        show_line(console, text, style="green" if last else "")
    if report.outcome != "trusted":
        show_line(console, f"{'  ' * len(report.chain)}└ ?", style="yellow")
    if report.deviations:
        heading(console, "Deviations  (a policy decides about them)")
        for deviation in report.deviations:
            show_line(console, f"• {deviation}", style="yellow")


def day(seconds: int) -> str:
    """Return the day of an instant, or the number itself where no calendar has it."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def show_statement(console: "Console", report: "StatementReport") -> None:
    """Show a TPM's statement: its verdict, every reason against it, what it says."""
    attest = report.attest or {}
    kind = attest.get("type", "statement")
    verdict(console, "accepted" if report.accepted else "refused", f"TPM {kind}")
    for code, message in report.reasons:
        show_line(console, f"✗ {message} [{code}]", style="red")
    for note in report.notes:
        show_line(console, f"! {note}", style="yellow")
    checks = (
        ("signature", report.signature_valid),
        ("nonce", report.nonce_match),
        ("certified name", report.name_match)
        if kind in ("certify", "creation")
        else ("register digest", report.pcr_digest_match),
    )
    heading(console, "What was checked  (· could not be known)")
    for name, held in checks:
        mark, style = _MARKS[held]
        show_line(console, f"{mark} {name}", style=style)
    heading(console, "What it says")
    show_fields(console, [(name, _said(value)) for name, value in attest.items()])
    if report.signer:
        heading(console, "Who signed it")
        show_fields(console, list(report.signer.items()))


def _said(value: object) -> object:
    if not isinstance(value, list):
        return value if value != "" else None
    return "; ".join(f"{bank}: {', '.join(map(str, pcrs)) or 'none'}" for bank, pcrs in value)


def show_evidence(console: "Console", report: "EvidenceReport") -> None:
    """Show an appraisal: its verdict, every reason, what was proved, and how each claim fared."""
    document = report.document()
    verdict(console, document["outcome"], f"evidence, tier {report.tier}")
    for reason in report.reasons:
        show_line(console, f"✗ {reason.text} [{reason.code}]", style="red")
    for note in report.notes:
        show_line(console, f"! {note}", style="yellow")
    if report.evidence is None:
        return
    quote, registers, runtime = document["quote"], document["registers"] or {}, document["runtime"]
    heading(console, "What was proved")
    show_fields(
        console,
        [
            ("device", document["device_id"]),
            ("chip", " ".join(filter(None, (document["ek"]["manufacturer"], document["ek"]["model"]))) or None),
            ("TPM firmware", quote["firmware_version"]),
            ("clock", f"{quote['clock']} ms, {quote['reset_count']} resets, {quote['restart_count']} restarts"),
            ("explained", _listed(registers.get("explained", ()))),
            ("unexplained", _listed(registers.get("unexplained", ()))),
            ("not logged", _listed(registers.get("not_logged", ()))),
            ("files", f"{runtime['entries']}, boot aggregate {runtime['boot_aggregate']}" if runtime else None),
        ],
    )
    heading(console, "Claims")
    rows = [
        (claim, one["check"], one["accepted"], one["refused"] or None, _listed({c["pcr"] for c in one["components"]}))
        for claim, one in document["claims"].items()
    ]
    show_table(console, ("claim", "check", "accepted", "refused", "PCR"), rows, empty="There are none.")


def _listed(numbers: Iterable[int]) -> str | None:
    return ", ".join(map(str, sorted(numbers))) or None


def show_difference(console: "Console", report: "DifferenceReport") -> None:
    """Show what changed between two boots, one line each."""
    registers = (
        f"PCR {_listed(report.pcrs)} {'differs' if len(report.pcrs) == 1 else 'differ'}"
        if report.pcrs
        else "no register differs"
    )
    verdict(
        console,
        "same" if report.same else "different",
        f"{counted(len(report.changes), 'change')}, {registers} ({report.bank})",
    )
    marks = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
    for one in report.changes:
        mark, style = marks[one.kind]
        place = f"; PCR {_listed(one.pcrs)}" if one.pcrs else ""
        show_line(console, f"{mark} {one.text}{place}", style=style)
