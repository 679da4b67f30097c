"""`attestd token`: what relying parties show. A token is printed once and stored as its hash alone."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from attestd.cli.answer import answer, show_line, show_table
from attestd.cli.options import Directory, Json, duration
from attestd.cli.session import opened_at
from attestd.cli.text import moment

if TYPE_CHECKING:
    from attestd.store.tokens import TokenRecord

commands = typer.Typer(no_args_is_help=True, help="Bearer tokens of relying parties: create, list, revoke.")
NEVER = "never"


@commands.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Who will use it: vpn-gateway-1.")],
    scope: Annotated[list[str], typer.Option("--scope", help="trust:read or devices:read; repeat for both.")],
    site: Annotated[str | None, typer.Option(help="Only the devices of this site.", show_default=False)] = None,
    expires: Annotated[str, typer.Option(help="90s, 15m, 12h, 30d, or never.")] = "90d",
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Make a token and print it: this is the only time that it is shown."""
    from attestd import clock
    from attestd.services import tokens

    now = clock.now_ms()
    end = None if expires == NEVER else now + 1_000 * duration(expires, option="--expires")
    with opened_at(directory) as store:
        secret, token = tokens.create(
            store, name, scopes=scope, site=site, expires_at=end, now=now, random=clock.random_bytes
        )
    answer(
        {"token": secret, **_document(token, now)},
        # The token alone on standard output, so that it can be piped to where it belongs.
        lambda console: show_line(console, secret),
        as_json=as_json,
    )


@commands.command("list")
def list_(directory: Directory = None, as_json: Json = False) -> None:
    """List the tokens, latest first: everything but the token itself."""
    from attestd import clock
    from attestd.services import tokens

    with opened_at(directory) as store:
        found = tokens.listed(store)
    now = clock.now_ms()
    documents = [_document(token, now) for token in found]
    rows = [
        (
            token.name,
            " ".join(token.scopes),
            token.site or "all",
            moment(token.created_at),
            moment(token.expires_at) if token.expires_at else NEVER,
            document["status"],
        )
        for token, document in zip(found, documents, strict=True)
    ]
    columns = ("name", "scopes", "site", "created", "expires", "status")
    answer(
        {"tokens": documents},
        lambda console: show_table(console, columns, rows, empty="There is no token: attestd token create."),
        as_json=as_json,
    )


@commands.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(help="The name it was created with.")],
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Revoke every token of this name; the next request with one is refused."""
    from attestd import clock
    from attestd.services import tokens

    with opened_at(directory) as store:
        count = tokens.revoke(store, name, now=clock.now_ms())
    answer(
        {"name": name, "revoked": count},
        lambda console: show_line(console, f"Revoked {count} token{'s' if count != 1 else ''} called {name}."),
        as_json=as_json,
    )


def _document(token: "TokenRecord", now: int) -> dict[str, Any]:
    return {
        "name": token.name,
        "scopes": list(token.scopes),
        "site": token.site,
        "created_at": token.created_at // 1000,
        "expires_at": None if token.expires_at is None else token.expires_at // 1000,
        "status": "valid" if token.valid(now) else "revoked" if token.revoked_at is not None else "expired",
    }
