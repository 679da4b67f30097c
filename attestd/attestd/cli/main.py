"""The command `attestd`: every command in one tree, every error in one line.

Imports nothing that takes time: commands import what they need when they run.
"""

from typing import Any

import typer
from typer.core import TyperGroup

from attestd.cli import (
    change,
    device,
    failures,
    inspect,
    install,
    inventory,
    options,
    profile,
    publication,
    record,
    service,
    token,
)
from attestd.cli.demo.command import demo


class _Commands(TyperGroup):
    """The root of the tree, where errors become one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. *Raises* typer.Exit for what `failures.translate` knows, and a defect as it is."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:
            raise  # typer ends quietly when the reader of a pipe goes away
        except Exception as error:
            failure = failures.translate(error)
            if failure is None:
                raise
            failures.show(failure, as_json=options.wants_json(ctx))
            raise typer.Exit(failure.exit_code) from None


app = typer.Typer(
    cls=_Commands,
    name="attestd",
    help="Zero-touch attestation and trust for edge fleets.",
    epilog=failures.EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def _root() -> None:
    """Zero-touch attestation and trust for edge fleets: the verifier and its operators' tools."""


_START, _FLEET, _RELYING, _UPKEEP = "Start here", "The fleet", "Relying parties", "Upkeep"

app.command("demo", rich_help_panel=_START)(demo)
app.command("init", rich_help_panel=_START)(install.init)
app.add_typer(inspect.commands, name="inspect", rich_help_panel=_START)
app.command("check", rich_help_panel=_START)(service.check)
app.command("serve", rich_help_panel=_START)(service.serve)
app.add_typer(device.commands, name="device", rich_help_panel=_FLEET)
app.command("log", rich_help_panel=_FLEET)(record.log)
app.add_typer(profile.commands, name="profile", rich_help_panel=_FLEET)
app.add_typer(inventory.commands, name="inventory", rich_help_panel=_FLEET)
app.add_typer(inventory.rules, name="rules", rich_help_panel=_FLEET)
app.add_typer(change.commands, name="change", rich_help_panel=_FLEET)
app.add_typer(token.commands, name="token", rich_help_panel=_RELYING)
app.add_typer(publication.crl, name="crl", rich_help_panel=_RELYING)
app.add_typer(publication.ear, name="ear", rich_help_panel=_RELYING)
app.command("migrate", rich_help_panel=_UPKEEP)(service.migrate)
app.add_typer(install.tls, name="tls", rich_help_panel=_UPKEEP)


def main() -> None:
    """Run the command line."""
    app()
