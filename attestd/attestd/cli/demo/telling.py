"""How the story is told: to people as it happens, or to programs as one JSON document at the end.

Texts of devices are escaped like everywhere else; nothing is shown that did not happen.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from attestd.cli.text import plain

if TYPE_CHECKING:
    from rich.text import Text

    from attestd.cli.demo.stage import Stage


@dataclass(frozen=True, slots=True)
class Step:
    """One step: who or what it is about, what was expected, what came true, the reasons, and how long it took."""

    subject: str
    expected: str
    actual: str
    seconds: float
    details: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Return whether it went as expected."""
        return self.expected == self.actual


class Telling(Protocol):
    """Whoever is told the story."""

    def begin(self, stage: "Stage") -> None:
        """Say what is about to be shown, and what is not real about it."""

    def act(self, title: str, text: str) -> None:
        """Begin a part of the story."""

    def working(self, text: str) -> AbstractContextManager[None]:
        """Say what is being done while it is being done."""

    def step(self, step: Step) -> None:
        """Say how a step went."""

    def end(self, steps: Sequence[Step], seconds: float, stage: "Stage", *, keep: bool) -> None:
        """Say how it all went, and where to look next."""


class ForPrograms:
    """Says nothing until the end, then one JSON document."""

    def begin(self, stage: "Stage") -> None:
        """Wait."""

    def act(self, title: str, text: str) -> None:
        """Wait."""

    def working(self, text: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Wait."""
        return nullcontext()

    def step(self, step: Step) -> None:
        """Wait."""

    def end(self, steps: Sequence[Step], seconds: float, stage: "Stage", *, keep: bool) -> None:
        """Print everything."""
        document = {
            "ok": all(step.ok for step in steps),
            "seconds": round(seconds, 2),
            "steps": [
                {
                    "subject": step.subject,
                    "ok": step.ok,
                    "expected": step.expected,
                    "actual": step.actual,
                    "details": list(step.details),
                    "seconds": round(step.seconds, 2),
                }
                for step in steps
            ],
            "directory": str(stage.place),
            "url": stage.url if keep else None,
        }
        print(json.dumps(document, indent=2), flush=True)


class ForPeople:
    """Tells the story on a terminal, with a clock; on a pipe as plain lines."""

    def __init__(self) -> None:
        from rich.console import Console

        # The stream is taken now: while an operator's command runs in this process, its output is redirected.
        self._console = Console(file=sys.stdout, highlight=False)
        self._begin = time.monotonic()

    def begin(self, stage: "Stage") -> None:
        """Say what is real and what is not."""
        self._print("attestd demo", style="bold")
        self._print(
            "A verifier and six machines on this computer. The verifier, its TLS, the agent, the TPM commands, the quotes "
            "and the boot logs are real. The chips are not: a software TPM can be copied, so nothing here protects "
            "anything. On a device the same agent talks to /dev/tpmrm0.",
            style="dim",
        )
        self._print(f"Files: {stage.place}", style="dim")

    def act(self, title: str, text: str) -> None:
        """Print a heading and a sentence or two."""
        self._console.print()
        self._print(title, style="bold cyan")
        self._print(text, style="dim")

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show a spinner where there is a terminal."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(self._text(text, "dim"), spinner="dots"):
            yield

    def step(self, step: Step) -> None:
        """Print one line, the reasons below it."""
        from rich.text import Text

        mark = Text("  ✓ " if step.ok else "  ✗ ", style="green" if step.ok else "bold red")
        line = mark + Text(f"{step.subject:<14} ", style="bold") + Text(plain(step.actual))
        line.append(f"  {_spent(step.seconds)}", style="dim")
        self._console.print(line)
        for detail in filter(None, step.details):
            self._indented(plain(detail), "dim")
        if not step.ok:
            self._indented(f"expected: {step.expected}", "red")

    def end(self, steps: Sequence[Step], seconds: float, stage: "Stage", *, keep: bool) -> None:
        """Print the sum and what to try next."""
        wrong = [step for step in steps if not step.ok]
        self._console.print()
        if wrong:
            self._print(
                f"{len(wrong)} of {len(steps)} steps did not go as expected, {seconds:.0f} s:", style="bold red"
            )
            for step in wrong:
                self._print(f"  {step.subject}: {step.actual}, not {step.expected}", style="red")
        else:
            self._print(f"All {len(steps)} steps went as expected, {seconds:.0f} s.", style="bold green")
        self._console.print()
        for line in _still_here(stage) if keep else _next():
            self._console.print(self._text(line, ""), soft_wrap=True)  # commands are for copying: never broken

    def _print(self, text: str, *, style: str = "") -> None:
        self._console.print(self._text(text, style))

    def _indented(self, text: str, style: str) -> None:
        from rich.padding import Padding

        self._console.print(Padding(self._text(text, style), (0, 0, 0, 19)))

    def _text(self, text: str, style: str) -> "Text":
        from rich.text import Text

        return Text(text, style=style)


def _spent(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"


def _next() -> tuple[str, ...]:
    return (
        "Where to look next:",
        "  attestd demo --keep    goes on, and says what to try with this fleet",
        "  attestd init --help    a verifier of your own",
        "  docs/protocol.md       every message that the machines just exchanged",
        "  docs/threat-model.md   what is withstood, and what is not claimed",
    )


def _still_here(stage: "Stage") -> tuple[str, ...]:
    place = stage.verifier
    return (
        f"The verifier and three machines go on at {stage.url}",
        "until you press Ctrl-C. In another terminal:",
        f"  export ATTESTD_DIRECTORY={place}",
        "  attestd device list",
        "  attestd device show edge-2",
        "  attestd log --follow",
        "  attestd device ban edge-1 --reason 'I want to see it fall'",
        "  TOKEN=$(attestd token create me --scope trust:read --scope devices:read)",
        f"  curl --cacert {stage.anchor} \\",
        f'    -H "Authorization: Bearer $TOKEN" {stage.url}/v1/devices',
    )
