"""A signed change, from a wish to its effect: drafted, shown, signed with an operator's SSH key, applied once enough signed.

Signing is OpenSSH's: any key that `ssh-keygen -Y sign` can use works (files, agents, FIDO2 security keys). An unencrypted
Ed25519 file is signed with here, so that a small host needs no ssh-keygen. Assumes that the person has looked at the change.
"""

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attestd.cli import failures
from attestd.cli.answer import answer, show_line
from attestd.cli.failures import CommandFailed
from attestd.cli.options import once_more
from attestd.cli.session import load, verifier_of
from attestd.cli.text import counted

if TYPE_CHECKING:
    from rich.console import Console

    from attestd.changes.operators import Operators
    from attestd.changes.statement import Change, Kind
    from attestd.config import Configuration
    from attestd.services.proposals import Standing

SIGN_SECONDS = 120.0
"""A security key waits for a touch; after two minutes nobody is there."""


def make(
    directory: Path | None,
    kind: "Kind",
    subject: str,
    *,
    body: bytes,
    key: Path | None,
    as_json: bool,
    said: str,
) -> None:
    """Draft, sign and submit one change, and say what became of it. `said` describes it in a sentence.

    Ends with exit code 0 where the change is applied or waits for other operators as configured.
    """
    from attestd.services import proposals

    configuration = load(directory)
    operators = operators_of(configuration)
    chosen = signing_key(configuration, key)
    with verifier_of(configuration) as verifier:
        proposer = "nobody" if chosen is None else principal_of(chosen, operators)
        change = proposals.draft(verifier, kind, subject, body=body, proposer=proposer)
        signatures = () if chosen is None else (sign(change, chosen),)
        standing = proposals.submit(verifier, operators, change, signatures=signatures)
    tell(standing, operators, as_json=as_json, said=said, directory=directory)


def tell(
    standing: "Standing", operators: "Operators", *, as_json: bool, said: str, directory: Path | None = None
) -> None:
    """Say where a change stands and who has to do what next."""

    def render(console: "Console") -> None:
        _show(console, standing, operators, said)
        if standing.applied_at is None:
            _next(console, standing.change.sequence, once_more(directory))

    answer(document(standing), render, as_json=as_json)


def document(standing: "Standing") -> dict[str, Any]:
    """Return where a change stands as a JSON value."""
    import hashlib

    change = standing.change
    return {
        "sequence": change.sequence,
        "kind": change.kind,
        "subject": change.subject,
        "sha256": hashlib.sha256(change.body).hexdigest(),
        "proposed_by": change.proposed_by,
        "proposed_at": change.proposed_at // 1000,
        "approved_by": list(standing.approvers),
        "approvals_missing": standing.missing,
        "applied_at": None if standing.applied_at is None else standing.applied_at // 1000,
        "moved": [
            {
                "device_id": moved.device_id,
                "from": moved.before.value,
                "to": moved.after.value,
                "revoked": list(moved.revoked),
            }
            for moved in standing.moved
        ],
    }


def _show(console: "Console", standing: "Standing", operators: "Operators", said: str) -> None:
    change = standing.change
    if standing.applied_at is not None:
        show_line(
            console, f"{said}: change {change.sequence}, approved by {', '.join(standing.approvers)}.", style="green"
        )
        for moved in standing.moved:
            show_line(console, f"  {moved.device_id[:12]}  {moved.before.value} → {moved.after.value}")
        return
    waiting = [name for name in operators.principals if name not in standing.approvers]
    missing = counted(standing.missing, "more approval")
    show_line(console, f"{said}: change {change.sequence} waits for {missing}.", style="yellow")
    show_line(console, f"  Any {standing.missing} of: {', '.join(waiting)}")


def _next(console: "Console", sequence: int, where: str) -> None:
    """Print the commands that an open change waits for, for copying."""
    show_line(console, f"  attestd change show {sequence}{where}                    what it would do")
    show_line(console, f"  attestd change approve {sequence}{where} --key ~/.ssh/…  sign here")
    show_line(console, f"  attestd change export {sequence}{where} > change.txt     or sign elsewhere:")
    show_line(console, "  ssh-keygen -Y sign -n attestd-change -f KEY change.txt")
    show_line(console, f"  attestd change apply {sequence}{where} --signature change.txt.sig")


# --- Keys -----------------------------------------------------------------------------------------------------------


def operators_of(configuration: "Configuration") -> "Operators":
    """Return the operators of a configuration. *Raises* ChangeRefused, OSError."""
    from attestd.changes.operators import parse_operators

    text = configuration.path(configuration.trust.operators).read_text(encoding="utf-8")
    return parse_operators(text, threshold=configuration.trust.approvals)


def signing_key(configuration: "Configuration", key: Path | None) -> Path | None:
    """Return the key to sign with: the one that was named, else the development operator's, else none."""
    from attestd.safety import OPERATOR_KEY

    local = configuration.path(OPERATOR_KEY)
    return key if key is not None else local if local.is_file() else None


def principal_of(key: Path, operators: "Operators") -> str:
    """Return which operator a key belongs to, before anything is signed with it. *Raises* CommandFailed (key-unknown)."""
    import base64

    words = _public_line(key).split()
    try:
        entry = operators.find(base64.b64decode(words[1], validate=True))
    except (IndexError, ValueError):
        entry = None
    if entry is None:
        raise CommandFailed(
            "key-unknown", f"{key} is no operator's key: the operators are {', '.join(operators.principals)}"
        )
    return entry.principal


def _public_line(key: Path) -> str:
    for path in (key, key.with_name(f"{key.name}.pub")):
        if path.is_file() and path.read_bytes()[:4] in (b"ssh-", b"sk-s", b"sk-e", b"ecds"):
            return path.read_text(encoding="utf-8", errors="replace")
    return _run("ssh-keygen", "-y", "-f", str(key))


def sign(change: "Change", key: Path) -> str:
    """Return the armored signature of a change. *Raises* CommandFailed (signing-failed)."""
    from attestd.changes.operators import sign_change

    try:
        return sign_change(change, key.read_bytes())
    except ValueError:
        return _sign_elsewhere(change, key)


def _sign_elsewhere(change: "Change", key: Path) -> str:
    from attestd.changes.statement import NAMESPACE, statement

    with tempfile.TemporaryDirectory(prefix="attestd-sign-") as place:
        text = Path(place) / "change.txt"
        text.write_bytes(statement(change))
        _run("ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(text))
        return text.with_name("change.txt.sig").read_text(encoding="ascii")


def _run(*command: str) -> str:
    """Run OpenSSH's tool with the person's terminal, so that it can ask for a passphrase or a touch."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=SIGN_SECONDS, check=False)
    except FileNotFoundError:
        raise CommandFailed(
            "ssh-keygen-missing",
            "ssh-keygen is needed for this key: install openssh-client",
            exit_code=failures.UNAVAILABLE,
        ) from None
    except subprocess.TimeoutExpired:
        raise CommandFailed("signing-failed", "nobody touched the key or typed its passphrase in two minutes") from None
    if done.returncode:
        raise CommandFailed("signing-failed", f"{' '.join(command[:3])} failed: its message stands above")
    return done.stdout
