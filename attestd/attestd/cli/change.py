"""`attestd change`: what operators have decided and what waits for their signatures."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attestd.cli import decision
from attestd.cli.answer import answer, show_fields, show_line, show_table
from attestd.cli.failures import CommandFailed
from attestd.cli.options import Directory, Json, Key
from attestd.cli.session import load, verifier_of
from attestd.cli.text import counted, moment, plain

if TYPE_CHECKING:
    from attestd.services.proposals import Standing

commands = typer.Typer(no_args_is_help=True, help="Signed changes of policy and inventory: list, show, approve, apply.")

Sequence = Annotated[int, typer.Argument(min=1, help="The change's number.", show_default=False)]
_SHOWN = 20_000


@commands.command("list")
def list_(directory: Directory = None, as_json: Json = False) -> None:
    """List the changes in their order; the last one may be open."""
    from attestd.services import proposals

    configuration = load(directory)
    operators = decision.operators_of(configuration)
    with verifier_of(configuration) as verifier, verifier.store.read() as connection:
        verifier.policy.book(connection)  # says so if the chain does not verify
        found = [proposals.standing_of(record, operators) for record in _all(connection)]
    columns = ("change", "kind", "subject", "approved by", "applied")
    rows = [
        (one.change.sequence, one.change.kind, one.change.subject, ", ".join(one.approvers), _applied(one))
        for one in found
    ]
    answer(
        {"changes": [decision.document(one) for one in found]},
        lambda console: show_table(console, columns, rows, empty="Nothing was decided yet."),
        as_json=as_json,
    )


def _all(connection: Any) -> list[Any]:
    from attestd.services import proposals

    found: list[Any] = []
    while True:
        page = proposals.listed(connection, after=found[-1].sequence if found else 0, limit=100)
        found += page
        if len(page) < 100:
            return found


def _applied(standing: "Standing") -> str:
    if standing.applied_at is not None:
        return moment(standing.applied_at)
    return f"waits for {standing.missing} more"


@commands.command("show")
def show(sequence: Sequence, directory: Directory = None, as_json: Json = False) -> None:
    """Show one change: its statement, which is what operators sign, and the document that the statement names."""
    import json

    from attestd.changes.statement import statement
    from attestd.services import proposals

    configuration = load(directory)
    operators = decision.operators_of(configuration)
    with verifier_of(configuration) as verifier, verifier.store.read() as connection:
        found = proposals.standing(connection, operators, sequence)
    text = statement(found.change).decode("ascii")
    body = json.loads(found.change.body)
    document = {**decision.document(found), "statement": text, "document": body}

    def render(console: Any) -> None:
        show_fields(console, [("approved by", ", ".join(found.approvers) or "nobody"), ("applied", _applied(found))])
        for line in ["", *text.splitlines(), ""]:
            show_line(console, line, whole=True)
        shown = json.dumps(body, indent=2)
        for line in shown[:_SHOWN].splitlines():
            show_line(console, line, whole=True)
        if len(shown) > _SHOWN:
            show_line(console, f"… {len(shown) - _SHOWN} more characters: --json shows all")

    answer(document, render, as_json=as_json)


@commands.command("approve")
def approve(sequence: Sequence, key: Key = None, directory: Directory = None, as_json: Json = False) -> None:
    """Sign an open change with your SSH key; it is applied as soon as enough operators have signed."""
    from attestd.services import proposals

    configuration = load(directory)
    operators = decision.operators_of(configuration)
    chosen = decision.signing_key(configuration, key)
    if chosen is None:
        raise CommandFailed("key-unknown", "say which key signs: --key ~/.ssh/id_ed25519")
    decision.principal_of(chosen, operators)
    with verifier_of(configuration) as verifier:
        with verifier.store.read() as connection:
            change = proposals.standing(connection, operators, sequence).change
        signature = decision.sign(change, chosen)
        standing = proposals.approve(verifier, operators, sequence, signature=signature)
    decision.tell(
        standing, operators, as_json=as_json, said=f"Signed {change.kind} {plain(change.subject)}", directory=directory
    )


@commands.command("export")
def export(
    sequence: Sequence,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write here instead.", show_default=False)
    ] = None,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Write the statement for `ssh-keygen -Y sign -n attestd-change -f KEY FILE`, on this host or on another."""
    from attestd.changes.statement import statement
    from attestd.services import proposals

    configuration = load(directory)
    operators = decision.operators_of(configuration)
    with verifier_of(configuration) as verifier, verifier.store.read() as connection:
        text = statement(proposals.standing(connection, operators, sequence).change)
    if output is not None:
        output.write_bytes(text)
        answer({"file": str(output)}, lambda console: show_line(console, f"Wrote {output}"), as_json=as_json)
    elif as_json:
        answer({"sequence": sequence, "statement": text.decode("ascii")}, lambda _console: None, as_json=True)
    else:
        sys.stdout.write(text.decode("ascii"))  # exactly these bytes are signed


@commands.command("apply")
def apply(
    sequence: Sequence,
    signature: Annotated[
        list[Path],
        typer.Option("--signature", exists=True, dir_okay=False, help="A signature file; repeat for more."),
    ],
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Add signatures that were made elsewhere; the change is applied as soon as they are enough."""
    from attestd.services import proposals

    configuration = load(directory)
    operators = decision.operators_of(configuration)
    with verifier_of(configuration) as verifier:
        for file in signature:
            armored = file.read_text(encoding="ascii", errors="replace")
            standing = proposals.approve(verifier, operators, sequence, signature=armored)
    said = f"Added {counted(len(signature), 'signature')}"
    decision.tell(standing, operators, as_json=as_json, said=said, directory=directory)


@commands.command("withdraw")
def withdraw(sequence: Sequence, directory: Directory = None, as_json: Json = False) -> None:
    """Forget an open change. What was applied stays for ever."""
    from attestd.services import proposals

    with verifier_of(load(directory)) as verifier:
        proposals.withdraw(verifier, sequence)
    answer(
        {"sequence": sequence, "withdrawn": True},
        lambda console: show_line(console, f"Change {sequence} is withdrawn."),
        as_json=as_json,
    )
