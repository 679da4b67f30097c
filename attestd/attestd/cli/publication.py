"""`attestd crl` and `attestd ear`: what relying parties rely on, seen from their side."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attestd.cli import failures
from attestd.cli.answer import answer, show_fields, show_line, show_table
from attestd.cli.failures import CommandFailed
from attestd.cli.options import Directory, Json
from attestd.cli.session import load, verifier_at
from attestd.cli.text import moment

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.x509 import CertificateRevocationList

crl = typer.Typer(no_args_is_help=True, help="The revocation list: show, refresh, export.")
ear = typer.Typer(no_args_is_help=True, help="Attestation results (EAR): verify.")


@crl.command("show")
def show(directory: Directory = None, as_json: Json = False) -> None:
    """Show the newest revocation list; one is made where there is none, or where it has passed half its life."""
    from attestd.services import publish

    with verifier_at(directory) as verifier:
        der = publish.current_crl(verifier)
    _tell(der, as_json)


@crl.command("refresh")
def refresh(directory: Directory = None, as_json: Json = False) -> None:
    """Sign and publish a new list now."""
    from attestd.services import publish

    with verifier_at(directory) as verifier:
        der = publish.refresh_crl(verifier)
    _tell(der, as_json)


@crl.command("export")
def export(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write here instead.", show_default=False)
    ] = None,
    pem: Annotated[bool, typer.Option("--pem", help="PEM instead of DER.")] = False,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Write the newest list in DER or PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import load_der_x509_crl

    from attestd.services import publish

    with verifier_at(directory) as verifier:
        der = publish.current_crl(verifier)
    data = load_der_x509_crl(der).public_bytes(Encoding.PEM) if pem else der
    if output is None:
        if sys.stdout.isatty() and not pem:
            raise CommandFailed("usage", "DER is not for a terminal: --pem, or --output FILE", exit_code=failures.USAGE)
        sys.stdout.buffer.write(data)
        return
    output.write_bytes(data)
    answer(
        {"file": str(output), "bytes": len(data)},
        lambda console: show_line(console, f"Wrote {output} ({len(data)} bytes)."),
        as_json=as_json,
    )


def _tell(der: bytes, as_json: bool) -> None:
    from cryptography.x509 import load_der_x509_crl

    found = load_der_x509_crl(der)
    document = _document(found)

    def render(console: Any) -> None:
        fields = [("number", document["number"]), ("issuer", document["issuer"])]
        fields += [
            (name, moment(document[key] * 1000)) for name, key in (("made", "this_update"), ("next", "next_update"))
        ]
        show_fields(console, fields)
        rows = [(one["serial"], moment(one["revoked_at"] * 1000), one["reason"]) for one in document["revoked"]]
        show_line(console, "")
        show_table(console, ("serial", "revoked", "reason"), rows, empty="No certificate is revoked.")

    answer(document, render, as_json=as_json)


def _document(found: "CertificateRevocationList") -> dict[str, Any]:
    from cryptography import x509

    end = found.next_update_utc
    return {
        "number": found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number,
        "issuer": found.issuer.rfc4514_string(),
        "this_update": int(found.last_update_utc.timestamp()),
        "next_update": None if end is None else int(end.timestamp()),
        "revoked": [
            {
                "serial": f"{entry.serial_number:x}",
                "revoked_at": int(entry.revocation_date_utc.timestamp()),
                "reason": _reason(entry),
            }
            for entry in found
        ],
    }


def _reason(entry: Any) -> str | None:
    from cryptography import x509

    try:
        return str(entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value)
    except x509.ExtensionNotFound:
        return None


@ear.command("verify")
def verify(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, allow_dash=True, help="The token; - reads it from standard input."),
    ],
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            exists=True,
            dir_okay=False,
            help="The verifier's public key (PEM, or /v1/keys as JSON); default: this one's.",
            show_default=False,
        ),
    ] = None,
    issuer: Annotated[
        str,
        typer.Option(
            help="Who must have issued it; default: spiffe:// and this one's trust domain.", show_default=False
        ),
    ] = "",
    device: Annotated[
        str, typer.Option(help="The device that it must be about; default: whichever it names.", show_default=False)
    ] = "",
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Check an attestation result as a relying party does. Exit code 0 only for a result that is current and affirming."""
    from attestd import clock
    from attestd.appraisal.ear import EarRefused, verify_ear
    from attestd.appraisal.policy import Tier

    token = (
        sys.stdin.read(1 << 20) if str(file) == "-" else file.read_text(encoding="ascii", errors="replace")
    ).strip()
    public = _public_key(key) if key is not None else _own_key(directory)
    by = issuer or f"spiffe://{load(directory).trust.domain}"
    try:
        found = verify_ear(token, public, issuer=by, device_id=device or _subject(token), now=clock.now_ms() // 1000)
    except EarRefused as error:
        raise CommandFailed("result-refused", f"not a current result of this verifier: {error}") from None
    document = {
        "device_id": found.device_id,
        "status": found.tier.name.lower(),
        "policies": list(found.policies),
        "issued_at": found.issued_at,
        "expires_at": found.expires_at,
    }

    def render(console: Any) -> None:
        times = [("issued", moment(found.issued_at * 1000)), ("expires", moment(found.expires_at * 1000))]
        show_fields(
            console,
            [
                ("device", found.device_id),
                ("status", document["status"]),
                ("policy", ", ".join(found.policies)),
                *times,
            ],
        )

    answer(document, render, as_json=as_json)
    if found.tier is not Tier.AFFIRMING:
        raise typer.Exit(failures.REFUSED)


def _own_key(directory: Path | None) -> "Ed25519PublicKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    configuration = load(directory)
    path = configuration.path(configuration.attestation.result_key)
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise CommandFailed("result-key-malformed", f"{path} is not an Ed25519 key in PEM", exit_code=failures.USAGE)
    return key.public_key()


def _public_key(path: Path) -> "Ed25519PublicKey":
    import base64
    import json

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = path.read_bytes()
    try:
        if data.lstrip().startswith(b"{"):
            document = json.loads(data)
            (member,) = document.get("keys", [document])
            return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(member["x"] + "="))
        key = load_pem_public_key(data)
    except (ValueError, TypeError, KeyError, AttributeError):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise CommandFailed("key-malformed", f"{path} is not an Ed25519 public key: PEM, or the answer of /v1/keys")
    return key


def _subject(token: str) -> str:
    """Return the device that a token says it is about; nothing is believed before the signature is checked."""
    import base64
    import json

    try:
        payload = token.split(".")[1]
        return str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"])
    except (IndexError, ValueError, KeyError, TypeError):
        raise CommandFailed("result-refused", "this is not a token") from None
