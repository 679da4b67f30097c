"""`attestd init` and `attestd tls`: a new installation, and its server certificate's renewal."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attestd.cli.answer import answer, show_line
from attestd.cli.options import Directory, Json

if TYPE_CHECKING:
    from rich.console import Console

    from attestd.cli.setup.install import Installed

tls = typer.Typer(no_args_is_help=True, help="The server certificate that devices verify this server with.")


def init(
    directory: Directory = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name", help="A name or address of this server, repeat for more; default: localhost and 127.0.0.1."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65_535)] = 8443,
    trust_domain: Annotated[
        str, typer.Option(help="The name of the fleet, in DNS form; it cannot be changed later.")
    ] = "fleet.example",
    database: Annotated[
        str,
        typer.Option(help="A PostgreSQL URL without a password; default: SQLite in the directory.", show_default=False),
    ] = "",
    wireguard_public_key: Annotated[
        str,
        typer.Option(
            help="The gateway's PUBLIC key (wg pubkey). Without it no VPN credential is issued.", show_default=False
        ),
    ] = "",
    wireguard_endpoint: Annotated[
        str, typer.Option(help="The gateway as devices reach it, host:port.", show_default=False)
    ] = "",
    as_json: Json = False,
) -> None:
    """Make a new installation: keys, certificates, configuration, database. Nothing is overwritten, no secret has a default."""
    from attestd.cli.setup.install import Wish, install
    from attestd.config import Environment

    names = tuple(dict.fromkeys(name or ("localhost", "127.0.0.1")))
    place = (directory or Environment().directory).absolute()
    made = install(Wish(place, names, host, port, trust_domain, database, wireguard_public_key, wireguard_endpoint))
    answer(_document(made), lambda console: _show(console, made), as_json=as_json)


def _document(made: "Installed") -> dict[str, Any]:
    configuration = made.configuration
    return {
        "directory": str(configuration.directory),
        "public_url": configuration.listen.public_url,
        "trust_domain": configuration.trust.domain,
        "schema": made.revision,
        "files": [{"path": str(path), "mode": f"{mode:04o}"} for path, mode in made.files],
        "wireguard": bool(configuration.wireguard.public_key),
    }


_MEANINGS = {
    "attestd.toml": "the configuration: one file, with comments",
    "tls/anchor.pem": "give this to your devices: they verify this server with it",
    "tls/anchor.key": "renews the server certificate: keep it offline if you can",
    "issuer/development.key": "DEVELOPMENT - NOT FOR PRODUCTION: one key that mints every certificate",
    "operators/development": "DEVELOPMENT - NOT FOR PRODUCTION: one key that signs every change",
    "operators/allowed_signers": "who may sign changes of policy and inventory",
    "results/key.pem": "signs attestation results",
}


def _show(console: "Console", made: "Installed") -> None:
    from rich.table import Table
    from rich.text import Text

    configuration = made.configuration
    place = configuration.directory
    console.print(Text(f"Made {place}", style="bold green"))
    table = Table(box=None, show_header=False, padding=(0, 2))
    for path, mode in made.files:
        table.add_row(
            Text(str(path)), Text(f"{mode:04o}", style="dim"), Text(_MEANINGS.get(str(path), ""), style="dim")
        )
    console.print(table, soft_wrap=False)
    show_line(console, "")
    show_line(console, "Next", style="bold")
    for number, line in enumerate(_next(made), 1):
        show_line(console, f"  {number}. {line}")
    show_line(console, "")
    show_line(console, "To see it all with software TPMs first, in under a minute: attestd demo", style="dim")


def _next(made: "Installed") -> list[str]:
    configuration = made.configuration
    place = configuration.directory
    steps = [
        f"Put the certificates of the TPM manufacturers that you accept into {place / 'anchors'} (PEM): their roots, and the "
        "issuing authorities that their chips do not carry in NV."
    ]
    if not configuration.wireguard.public_key:
        steps.append(
            "Set wireguard.public_key in attestd.toml to your gateway's; until then no VPN credential is issued."
        )
    return [
        *steps,
        f"See what is still missing:  attestd check -d {place}",
        f"Answer at {configuration.listen.public_url}:  attestd serve -d {place}",
    ]


@tls.command("renew")
def renew(
    directory: Directory = None,
    anchor_key: Annotated[
        Path | None,
        typer.Option(help="The anchor's private key, if you keep it elsewhere.", exists=True, dir_okay=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a new server key and certificate for the names in attestd.toml, under the anchor that devices have. Then restart."""
    from attestd.cli.session import load
    from attestd.cli.setup.renewal import renew_server
    from attestd.cli.text import moment

    end = renew_server(load(directory), anchor_key=anchor_key)
    answer(
        {"not_after": end},
        lambda console: show_line(
            console, f"Made a new server certificate, valid until {moment(end * 1000)}. Restart attestd serve."
        ),
        as_json=as_json,
    )
