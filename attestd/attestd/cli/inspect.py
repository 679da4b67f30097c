"""`attestd inspect`: look at evidence of any machine, off line, without a TPM and without a configuration.

Every command takes files and says what they are, whether they hold, and why not. The exit code is 0 for what is accepted, 1 for
what is refused or not reproduced, 2 for wrong usage. Nothing here decides about a device.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from attestd.cli.inspect_files import Given, Shown, Subject, files_of, instant, profile_in, read, report, store_of
from attestd.cli.options import Json, existing_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from attestd.inspection.certificates import CertificateReport
    from attestd.inspection.difference import Boot
    from attestd.inspection.statements import StatementReport
    from attestd_pki.chain import TrustStore

commands = typer.Typer(
    no_args_is_help=True,
    help="Look at evidence of any machine, off line: boot logs, runtime lists, certificates, quotes, manifests, results.",
)
Anchors = Annotated[
    list[Path] | None,
    existing_file(
        "A bundle of authorities (PEM or DER); its self-signed certificates are the anchors. May be repeated.",
        "--anchors",
    ),
]
VerifierKey = Annotated[
    Path | None,
    existing_file("The signer's public key: a JWK or a set of them, PEM, DER or COSE_Key.", "--key"),
]
At = Annotated[
    str, typer.Option("--at", help="The instant to judge validity at: 2026-11-22 or unix seconds.", show_default="now")
]


@commands.command("eventlog")
def eventlog(
    file: Subject,
    pcrs: Annotated[
        Path | None,
        existing_file('Register values to explain: {"sha256": {"0": "hex", …}}.'),
    ] = None,
    then: Annotated[
        Path | None,
        existing_file("What the running system measured behind it: systemd's tpm2-measure.log."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a boot event log: every event with what it means, and what the registers hold after it."""
    from attestd.cli.inspect_show import show_log
    from attestd.inspection.eventlog import inspect_event_log, refused_log
    from attestd.inspection.registers import read_registers
    from attestd.protocol import limits

    given = Given(file, "eventlog", 2 * limits.MAX_EVENT_LOG, code="eventlog-size")

    def build() -> Shown:
        values = read_registers(read(pcrs, limits.MAX_JSON_BODY, code="pcrs-malformed")) if pcrs is not None else None
        data = given.read()
        behind = read(then, 2 * limits.MAX_EVENT_LOG, code="eventlog-size") if then is not None else None
        found = inspect_event_log(data, values, behind=behind)
        return found.document(), lambda console: show_log(console, found), found.reproduced

    report(build, refused_log, as_json=as_json, given=given)


@commands.command("ima")
def ima(file: Subject, as_json: Json = False) -> None:
    """Show a Linux runtime list (IMA), binary or text: entries, violations, wrong hashes, and what PCR 10 would hold."""
    import gc

    from attestd.cli.inspect_show import show_runtime
    from attestd.inspection.runtime import inspect_ima, refused_ima
    from attestd.protocol import limits

    gc.disable()  # 100,000 entries are no garbage, and looking for some costs a third of the time

    given = Given(file, "ima", limits.INSPECTED_IMA, code="ima-size")

    def build() -> Shown:
        found = inspect_ima(given.read())
        return found.document(), lambda console: show_runtime(console, found), found.accepted

    report(build, refused_ima, as_json=as_json, given=given)


@commands.command("ek")
def ek(file: Subject, anchors: Anchors = None, at: At = "", as_json: Json = False) -> None:
    """Show an endorsement key certificate in any wrapping: whose chip, who stands behind it, what is odd about it."""
    from attestd.inspection.certificates import inspect_ek

    _certificate(inspect_ek, "ek", file, anchors, at, as_json=as_json)


@commands.command("cert")
def cert(file: Subject, anchors: Anchors = None, at: At = "", as_json: Json = False) -> None:
    """Show any other certificate: of an attestation key, a device identity, an authority of platforms or chips."""
    from attestd.inspection.certificates import inspect_certificate

    _certificate(inspect_certificate, "cert", file, anchors, at, as_json=as_json)


class _Inspect(Protocol):
    """What looks at a certificate."""

    def __call__(self, data: bytes, store: "TrustStore", *, at: int) -> "CertificateReport": ...


def _certificate(
    inspect: "_Inspect", command: str, file: Path, anchors: list[Path] | None, at: str, *, as_json: bool
) -> None:
    from attestd.cli.inspect_show import show_certificate
    from attestd.inspection.certificates import refused_certificate
    from attestd.protocol import limits

    moment = instant(at)
    given = Given(file, command, limits.INSPECTED_CERTIFICATE, code="unwrap-too-large")

    def build() -> Shown:
        found = inspect(given.read(), store_of(anchors), at=moment)
        return found.document(), lambda console: show_certificate(console, found), found.outcome == "trusted"

    report(build, refused_certificate, as_json=as_json, given=given)


@commands.command("quote")
def quote(file: Subject, as_json: Json = False) -> None:
    """Show a TPM's quote with its key, nonce and register values (a tuple in JSON): what holds, and what speaks against it."""
    from attestd.inspection.statements import inspect_quote

    _statement(inspect_quote, "quote", file, as_json=as_json)


@commands.command("certify")
def certify(file: Subject, as_json: Json = False) -> None:
    """Show a TPM's certification of a key (TPM2_Certify, TPM2_CertifyCreation; a tuple in JSON)."""
    from attestd.inspection.statements import inspect_certify

    _statement(inspect_certify, "certify", file, as_json=as_json)


def _statement(inspect: "Callable[[bytes], StatementReport]", command: str, file: Path, *, as_json: bool) -> None:
    from attestd.cli.inspect_show import show_statement
    from attestd.inspection.statements import refused_statement
    from attestd.protocol import limits

    given = Given(file, command, limits.INSPECTED_DOCUMENT, code="json-size")

    def build() -> Shown:
        found = inspect(given.read())
        return found.document(), lambda console: show_statement(console, found), found.accepted

    report(build, refused_statement, as_json=as_json, given=given)


@commands.command("evidence")
def evidence(
    directory: Annotated[
        Path,
        typer.Argument(exists=True, file_okay=False, help="A directory that `attestd-agent quote -o` wrote."),
    ],
    profile: Annotated[
        Path | None,
        existing_file("A profile in YAML to hold it against."),
    ] = None,
    anchors: Anchors = None,
    at: At = "",
    as_json: Json = False,
) -> None:
    """Appraise an evidence directory: quote, registers, boot log, runtime list, and a profile's verdict with all its reasons."""
    from attestd.cli.inspect_show import show_evidence
    from attestd.inspection.evidence import inspect_evidence, refused_evidence

    moment = instant(at)
    policy = profile_in(profile) if profile is not None else None

    def build() -> Shown:
        store = store_of(anchors) if anchors else None
        found = inspect_evidence(files_of(directory), store=store, profile=policy, now_ms=moment * 1000)
        return found.document(), lambda console: show_evidence(console, found), found.accepted

    report(build, refused_evidence, as_json=as_json)


@commands.command("platform")
def platform(file: Subject, anchors: Anchors = None, at: At = "", as_json: Json = False) -> None:
    """Show a platform (attribute) certificate: what its maker says a machine was built of, and who signed that."""
    from attestd.cli.inspect_documents import show_platform
    from attestd.inspection.platform import inspect_platform, refused_platform
    from attestd.protocol import limits

    moment = instant(at)
    given = Given(file, "platform", limits.INSPECTED_CERTIFICATE, code="platform-size")

    def build() -> Shown:
        data = given.read()
        found = inspect_platform(data, store_of(anchors) if anchors else None, at=moment)
        return found.document(), lambda console: show_platform(console, found), found.outcome in ("parsed", "trusted")

    report(build, refused_platform, as_json=as_json, given=given)


@commands.command("rim")
def rim(file: Subject, anchors: Anchors = None, key: VerifierKey = None, at: At = "", as_json: Json = False) -> None:
    """Show a reference manifest: a signed SWID tag, a CoSWID, a uSWID out of a firmware image."""
    from attestd.cli.inspect_documents import show_rim
    from attestd.inspection.rim import inspect_rim, refused_rim
    from attestd.protocol import limits

    moment = instant(at)
    given = Given(file, "rim", limits.INSPECTED_DOCUMENT, code="rim-size")

    def build() -> Shown:
        data = given.read()
        own = read(key, limits.INSPECTED_DOCUMENT, code="key-size") if key is not None else None
        found = inspect_rim(data, store_of(anchors) if anchors else None, own, at=moment)
        return found.document(), lambda console: show_rim(console, found), found.accepted

    report(build, refused_rim, as_json=as_json, given=given)


@commands.command("corim")
def corim(file: Subject, key: VerifierKey = None, anchors: Anchors = None, at: At = "", as_json: Json = False) -> None:
    """Show a CoRIM, signed or not, or a CoMID: the reference values and keys that an endorser states."""
    from attestd.cli.inspect_documents import show_corim
    from attestd.inspection.corim import inspect_corim, refused_corim
    from attestd.protocol import limits

    moment = instant(at)
    given = Given(file, "corim", limits.INSPECTED_DOCUMENT, code="corim-size")

    def build() -> Shown:
        own = read(key, limits.INSPECTED_DOCUMENT, code="key-size") if key is not None else None
        data = given.read()
        found = inspect_corim(data, own, store_of(anchors) if anchors else None, at=moment)
        return found.document(), lambda console: show_corim(console, found), found.accepted

    report(build, refused_corim, as_json=as_json, given=given)


@commands.command("ear")
def ear(
    file: Subject,
    key: VerifierKey = None,
    at: At = "",
    as_json: Json = False,
) -> None:
    """Show an attestation result (EAR), as JSON, CBOR, JWT or CWT: each attester's status and vector."""
    from attestd.cli.inspect_documents import show_ear
    from attestd.inspection.ear import inspect_ear, refused_ear
    from attestd.protocol import limits

    moment = instant(at)
    given = Given(file, "ear", limits.INSPECTED_DOCUMENT, code="ear-size")

    def build() -> Shown:
        jwk = read(key, limits.INSPECTED_DOCUMENT, code="json-size") if key is not None else None
        found = inspect_ear(given.read(), jwk, at=moment)
        return found.document(), lambda console: show_ear(console, found), found.accepted

    report(build, refused_ear, as_json=as_json, given=given)


@commands.command("diff")
def diff(
    before: Annotated[Path, typer.Argument(exists=True, help="A boot log, or an evidence directory.")],
    after: Annotated[Path, typer.Argument(exists=True, help="Another one.")],
    as_json: Json = False,
) -> None:
    """Say what changed between two boots in words; the exit code is 1 where anything did."""
    from attestd.cli.inspect_show import show_difference
    from attestd.inspection.difference import inspect_difference, refused_difference

    def build() -> Shown:
        found = inspect_difference(_boot(before), _boot(after))
        return found.document(), lambda console: show_difference(console, found), found.same

    report(build, refused_difference, as_json=as_json)


def _boot(path: Path) -> "Boot":
    """Return one side of a difference. *Raises* `InspectionRefused`, which says of which side it is."""
    from attestd.inspection.difference import read_boot
    from attestd.inspection.refused import InspectionRefused
    from attestd.protocol import limits

    given = Given(path, "eventlog", 2 * limits.MAX_EVENT_LOG, code="eventlog-size")
    try:
        return read_boot(files_of(path) if path.is_dir() else {"eventlog.bin": given.read()})
    except InspectionRefused as error:
        hint = given.hint()
        raise InspectionRefused(error.code, f"{path}: {error.message}{f'; {hint[1]}' if hint else ''}") from None
