"""The command `attestd`: every command in one tree, every error in one line.

Imports nothing that takes time: commands import what they need when they run.
"""

from typing import Any

import typer
from typer.core import TyperGroup

from attestd.cli import failures, install, options, service, token


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


app.command("init")(install.init)
app.command("check")(service.check)
app.command("serve")(service.serve)
app.command("migrate")(service.migrate)
app.add_typer(install.tls, name="tls")
app.add_typer(token.commands, name="token")


def main() -> None:
    """Run the command line."""
    app()
