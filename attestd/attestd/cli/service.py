"""`attestd check`, `attestd serve` and `attestd migrate`: the service itself."""

from typing import TYPE_CHECKING, Annotated

import typer

from attestd.cli import failures
from attestd.cli.answer import answer, show_line
from attestd.cli.options import Directory, Json
from attestd.cli.session import load

if TYPE_CHECKING:
    from rich.console import Console

    from attestd.errors import UnsafeConfiguration


def check(directory: Directory = None, as_json: Json = False) -> None:
    """Say everything that is unsafe or missing, and what to do about it."""
    from attestd import safety

    found = tuple(safety.findings(load(directory)))
    document = {"safe": not found, "findings": [{"code": item.code, "message": str(item)} for item in found]}
    answer(document, lambda console: _show(console, found), as_json=as_json)
    if found:
        raise typer.Exit(failures.REFUSED)


def _show(console: "Console", found: "tuple[UnsafeConfiguration, ...]") -> None:
    if not found:
        show_line(console, "Nothing is unsafe and nothing is missing.", style="green")
    for item in found:
        show_line(console, f"{item} [{item.code}]", style="yellow")


def serve(
    directory: Directory = None,
    host: Annotated[str | None, typer.Option(help="Listen here instead.", show_default=False)] = None,
    port: Annotated[
        int | None, typer.Option(help="Listen on this port instead.", min=0, max=65_535, show_default=False)
    ] = None,
    as_json: Json = False,  # noqa: ARG001 (errors are JSON then, as with every command)
) -> None:
    """Serve devices and relying parties until the process is told to end. Refuses to start with an unsafe configuration."""
    from attestd import app, safety

    configuration = load(directory)
    listen = {"host": host, "port": port}
    chosen = {name: value for name, value in listen.items() if value is not None}
    configuration = configuration.model_copy(update={"listen": configuration.listen.model_copy(update=chosen)})
    safety.check(configuration)
    app.serve(configuration)


def migrate(directory: Directory = None, as_json: Json = False) -> None:
    """Bring the database's schema to this version's. Several hosts may do so at once: one works, the others wait."""
    from attestd.cli.setup.install import migrate as bring

    revision = bring(load(directory))
    answer(
        {"schema": revision},
        lambda console: show_line(console, f"The database is at revision {revision}."),
        as_json=as_json,
    )
