"""Every command but `run`: for people at a device, and for scripts that read exit codes.

A command does one thing and ends; what it proves or asks is done by the same code as the service's. Output of devices
and verifiers is text and never markup. Assumes that cli.py took the settings off the line.
"""

import base64
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attestd.protocol import limits
from attestd.protocol.messages import QuoteRequest
from attestd_agent import authoring, config, run, wireguard
from attestd_agent.attempt import Agent, Attempt, connect
from attestd_agent.errors import ConfigurationError, ExitCode, NotEnrolled
from attestd_agent.journal import Journal, quoted
from attestd_agent.machine import Outcome, Started, TimerFired
from attestd_agent.proof import Sources
from attestd_agent.record import Enrolment, Record, tunnel_credential, write_private
from attestd_agent.tpm_esys import EsysTpm

if TYPE_CHECKING:
    from attestd_agent.cli import Line

_EXITS = (
    "Exit codes: 0 this device is trusted, 1 it was refused, 2 usage or configuration, 3 no verifier answers, "
    "4 the TPM fails, 5 it waits for a person."
)
_ANYWHERE = "Settings, anywhere on the line, in the environment, or in the file that --config names:"
_HELP = "\n\n".join(
    (
        "Prove with the TPM what this device is and what it booted.",
        _ANYWHERE,
        *(
            f"--{name.replace('_', '-')} VALUE  ({config.ENVIRONMENT}{name.upper()})  {meaning}."
            for name, meaning in config.SETTINGS.items()
        ),
        "--json prints JSON for programs, with every command.",
        _EXITS,
    )
)


def dispatch(line: "Line") -> int:
    """Run the command that the line names and return its exit code."""
    try:
        _application(_Commands(line))(list(line.rest), prog_name="attestd-agent")
    except SystemExit as ended:  # typer ends its process, with 2 where it does not understand the line
        return ended.code if isinstance(ended.code, int) else 0
    return 0


def _application(commands: "_Commands") -> Callable[..., Any]:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, help=_HELP)
    for command in (commands.enroll, commands.attest, commands.status):
        app.command(command.__name__, epilog=_EXITS)(_ending(command))
    for command in (commands.run, commands.identity, commands.quote, commands.wireguard, commands.version):
        app.command(command.__name__)(_ending(command))
    return app


def _ending(command: Callable[..., int]) -> Callable[..., None]:
    """Return the command so that its number becomes the exit code."""

    @wraps(command)
    def run_and_end(*args: Any, **kwargs: Any) -> None:
        raise typer.Exit(command(*args, **kwargs))

    return run_and_end


class _Commands:
    """The commands over one line's settings."""

    def __init__(self, line: "Line") -> None:
        self._line = line

    def run(self) -> int:
        """Prove this device again and again; the service does this."""
        from attestd_agent.cli import serve

        return serve(self._line)

    def enroll(
        self,
        again: Annotated[bool, typer.Option("--again", help="Enrol anew, with new keys, even if enrolled.")] = False,
    ) -> int:
        """Enrol this device, or prove it now where it is enrolled already."""
        agent = self._agent()
        try:
            attempt = run.once(agent, start=Started() if again else None)
            if attempt.forgotten:  # trust had ended: this command is the wish to regain it
                attempt = agent.attempt(attempt.memory, TimerFired())
        finally:
            agent.close()
        return self._tell(attempt)

    def attest(self) -> int:
        """Prove this device once, now."""
        agent = self._agent()
        try:
            start = agent.begin()
            if start.nonce is None:
                raise NotEnrolled("this device is not enrolled at this verifier: attestd-agent enroll")
            attempt = run.once(agent, start=start)
        finally:
            agent.close()
        return self._tell(attempt)

    def status(self) -> int:
        """Show what the verifier last said, and until when it holds. Asks neither the verifier nor the TPM."""
        settings = self._line.settings()
        store = Record(settings.state_directory, settings.server)
        enrolment, verdict = store.load(), store.verdict()
        now = int(time.time())
        code = ExitCode.REFUSED if verdict is None else Outcome(verdict.outcome).exit_code
        late = enrolment is None or enrolment.deadline <= now
        if code is ExitCode.TRUSTED and late:
            code = ExitCode.REFUSED
        document: dict[str, Any] = {
            "trusted": code is ExitCode.TRUSTED,
            "enrolled": enrolment is not None,
            **({} if enrolment is None else _shown(enrolment)),
            **({} if verdict is None else asdict(verdict)),
        }
        if verdict is None:
            document["detail"] = "this device has not been proved yet: attestd-agent enroll"
        elif enrolment is not None and late:
            document["detail"] = "the last accepted proof is too old: the verifier no longer trusts this device"
        self._print(document)
        return code

    def identity(
        self,
        inventory: Annotated[
            bool, typer.Option("--inventory", help="Print a row for an inventory file: CSV with a header, or JSON.")
        ] = False,
        name: Annotated[
            str, typer.Option(help="This device's name there; default: the host's.", show_default=False)
        ] = "",
        site: Annotated[str, typer.Option(help="Its site there.", show_default=False)] = "",
        profile: Annotated[str, typer.Option(help="Its profile there.", show_default=False)] = "",
    ) -> int:
        """Show who this device is: its id, its endorsement key's digest, the TPM's manufacturer."""
        document = authoring.identity_of(EsysTpm(self._line.settings().tcti))
        if not inventory:
            self._print(document)
            return 0
        row = authoring.inventory_row(document, name=name, site=site, profile=profile)
        print(json.dumps([row]) if self._line.as_json else authoring.inventory_csv(row), end="")
        return 0

    def quote(
        self,
        output: Annotated[
            Path | None, typer.Option("--output", "-o", help="Directory to write; it must not exist.")
        ] = None,
        nonce: Annotated[str, typer.Option(help="Qualifying data in hex, at most 64 bytes; random by default.")] = "",
        bank: Annotated[str, typer.Option(help="The bank of registers.")] = "sha256",
        pcrs: Annotated[str, typer.Option(help="The registers, as in 0-7,14.")] = "0-14",
    ) -> int:
        """Quote the registers and gather the logs, for authoring reference values. Nothing is sent."""
        settings = self._line.settings()
        if output is None and not self._line.as_json:
            raise ConfigurationError("name a directory with --output, or print everything with --json")
        files = authoring.evidence(
            EsysTpm(settings.tcti),
            QuoteRequest(bank, authoring.parse_registers(pcrs)),
            nonce=authoring.parse_nonce(nonce) if nonce else os.urandom(limits.MIN_NONCE * 2),
            sources=Sources(settings.event_log, settings.ima_list),
        )
        if output is not None:
            authoring.write_directory(output, files)
            self._print({"directory": str(output), "files": sorted(files)})
        else:
            print(json.dumps({name: base64.b64encode(content).decode("ascii") for name, content in files.items()}))
        return 0

    def wireguard(
        self,
        output: Annotated[Path | None, typer.Option("--output", "-o", help="Write this file (0600) instead.")] = None,
        public: Annotated[bool, typer.Option("--public", help="Leave the private key out.")] = False,
    ) -> int:
        """Print the complete tunnel configuration for wg-quick: the private key is unsealed by the TPM for this."""
        settings = self._line.settings()
        enrolment = Record(settings.state_directory, settings.server).load()
        if enrolment is None:
            raise NotEnrolled("this device is not enrolled at this verifier: attestd-agent enroll")
        credential = tunnel_credential(enrolment)
        if public:
            text = wireguard.public_configuration(credential)
        else:
            text = wireguard.configuration(EsysTpm(settings.tcti), enrolment.device.keys.tunnel, credential)
        if output is None:
            print(json.dumps({"configuration": text}) if self._line.as_json else text, end="")
            return 0
        try:
            write_private(output, text.encode())
        except OSError as error:
            raise ConfigurationError(f"{output} cannot be written: {error.strerror}") from None
        self._print({"file": str(output)})
        return 0

    def version(self) -> int:
        """Show the version."""
        try:
            found = installed_version("attestd")
        except PackageNotFoundError:
            found = "unknown"
        self._print({"version": found})
        return 0

    # --- Parts ------------------------------------------------------------------------------------------------------

    def _agent(self) -> Agent:
        settings = self._line.settings()
        server = settings.verifier()
        store = Record(settings.state_directory, server)
        return Agent(
            server.host,
            EsysTpm(settings.tcti),
            store,
            sources=Sources(settings.event_log, settings.ima_list),
            transport=lambda: connect(settings, store),
            log=Journal(sys.stderr, as_json=self._line.as_json, stamped=False),
        )

    def _tell(self, attempt: Attempt) -> int:
        report = attempt.report
        document = {"trusted": report.outcome is Outcome.TRUSTED, **asdict(report)}
        self._print(document | {"outcome": report.outcome.value})
        return report.outcome.exit_code

    def _print(self, document: dict[str, Any]) -> None:
        if self._line.as_json:
            print(json.dumps(document, default=str))
        else:
            _print_for_people(document)


def _shown(enrolment: Enrolment) -> dict[str, Any]:
    return {
        "device_id": enrolment.device.device_id,
        "interval": enrolment.interval,
        "deadline": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(enrolment.deadline)),
        "addresses": [address for credential in enrolment.vpn for address in credential.addresses],
    }


def _print_for_people(document: dict[str, Any]) -> None:
    """Print names and values in two columns, then the findings. Values are text, never markup, and never broken over lines."""
    from rich.console import Console
    from rich.text import Text

    rows: list[tuple[str, str, str]] = []
    for name, value in document.items():
        if name == "findings" or value in (None, "", (), []):
            continue
        if name == "since":
            value = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(value))
        shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        shown = {"True": "yes", "False": "no"}.get(shown, shown)
        rows.append((name.replace("_", " "), shown, ("green" if value else "red") if name == "trusted" else ""))
    console = Console(highlight=False, soft_wrap=True)
    width = max((len(name) for name, _, _ in rows), default=0)
    for name, shown, style in rows:
        console.print(Text.assemble((f"{name:{width}}", "bold"), "  ", (_printable(shown), style)))
    for finding in document.get("findings", ()):
        fields = finding if isinstance(finding, dict) else asdict(finding)
        words = (f"{name}={quoted(value)}" for name, value in fields.items() if value not in (None, ""))
        console.print(Text("  " + " ".join(words)))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
