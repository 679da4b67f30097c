"""`attestd profile import`: what makers signed becomes a draft of a profile. Nothing is activated, nothing is overwritten."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attestd.cli.answer import answer, show_line
from attestd.cli.drafts import Output, read_profile, require_free, write_new
from attestd.cli.failures import CommandFailed
from attestd.cli.options import Json, existing_file
from attestd.cli.text import counted, next_step

if TYPE_CHECKING:
    from rich.console import Console

    from attestd.appraisal.policy import Profile
    from attestd.inspection.authority import Authorities
    from attestd.reference.manifest import Manifest, Source
    from attestd.reference.manifest_profile import Draft
    from attestd.reference.manifest_values import Values

_SHOWN = 20
_Manifests = Annotated[
    list[Path],
    typer.Argument(exists=True, dir_okay=False, help="RIMs, SWID tags, CoSWIDs, CoRIMs.", show_default=False),
]
_Logs = Annotated[
    list[Path] | None,
    existing_file(
        "A support log (.rimel) that a manifest lists. May be repeated; in the order of the boot.", "--support-log"
    ),
]
_Anchors = Annotated[
    list[Path] | None,
    existing_file("Authorities (PEM or DER) that may vouch for a maker. May be repeated.", "--anchors"),
]
_Keys = Annotated[
    list[Path] | None,
    existing_file("A maker's public key: JWK, PEM, DER or COSE_Key. May be repeated.", "--key"),
]


def import_(
    manifests: _Manifests,
    output: Output,
    support_log: _Logs = None,
    anchors: _Anchors = None,
    key: _Keys = None,
    unsigned: Annotated[
        bool,
        typer.Option("--unsigned", help="Also take manifests that nobody vouches for: anybody may have written them."),
    ] = False,
    onto: Annotated[
        Path | None,
        existing_file("A profile that the values are added to."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="With --onto: what manifests speak of accepts nothing else any longer.")
    ] = False,
    name: Annotated[str, typer.Option(help="The profile's name; default: that of --onto, or the file's.")] = "",
    version: Annotated[
        int | None, typer.Option(min=1, help="Default: 1, or the next one with --onto.", show_default=False)
    ] = None,
    environment: Annotated[
        str, typer.Option(help="Which environment of a CoRIM is meant, where it has values for several.")
    ] = "",
    numbers_are_registers: Annotated[
        bool, typer.Option("--numbers-are-registers", help="The numbers that a CoRIM's measurements have are PCRs.")
    ] = False,
    bank: Annotated[str, typer.Option(help="The bank to take out of support logs; default: sha256.")] = "",
    at: Annotated[str, typer.Option("--at", help="The instant to judge validity at.", show_default="now")] = "",
    as_json: Json = False,
) -> None:
    """Write a profile out of what makers signed: support logs become claims, registers and files what may be measured."""
    from attestd.appraisal.profile import parse_profile_yaml
    from attestd.cli.inspect_files import instant
    from attestd.inspection.refused import InspectionRefused
    from attestd.reference.manifest import ManifestRefused
    from attestd.reference.manifest_values import Reading

    if replace and onto is None:
        raise typer.BadParameter("--replace is about the values of a profile: --onto P.yaml")
    require_free(output)
    moment = instant(at)
    base = None if onto is None else read_profile(onto)
    try:
        found = _read(manifests, _authorities(anchors, key), unsigned=unsigned, at=moment)
        reading = Reading(numbers_are_registers, environment, bank)
        text, values, made = _written(
            found,
            support_log or [],
            reading,
            base,
            name=name or (output.stem if base is None else base[0].name),
            version=version,
            replace=replace,
        )
    except ManifestRefused as error:
        message = error.message + "".join(f"; {one}" for one in error.left_out[:_SHOWN])
        raise CommandFailed(error.code, message) from None
    except InspectionRefused as error:
        raise CommandFailed(error.code, error.message) from None
    profile = parse_profile_yaml(text)
    write_new(output, text)
    document = _document(output, profile, found, values, made)
    answer(document, lambda console: _show(console, document), as_json=as_json)


def _authorities(anchors: list[Path] | None, keys: list[Path] | None) -> "Authorities":
    """Return who may sign. *Raises* `InspectionRefused` ("bundle-…", "key-…")."""
    from attestd.cli.inspect_files import read, store_of
    from attestd.inspection.authority import Authorities
    from attestd.inspection.keyfile import read_keys
    from attestd.protocol.limits import INSPECTED_DOCUMENT

    found = tuple(one for path in keys or [] for one in read_keys(read(path, INSPECTED_DOCUMENT, code="key-size")))
    return Authorities(found, store_of(anchors) if anchors else None)


def _read(paths: list[Path], authorities: "Authorities", *, unsigned: bool, at: int) -> "list[Manifest]":
    from attestd.cli.inspect_files import read
    from attestd.inspection.refused import InspectionRefused
    from attestd.protocol.limits import INSPECTED_DOCUMENT
    from attestd.reference.manifest import Trust, read_manifest

    trust = Trust.ANYBODY if unsigned else Trust.AUTHORITIES
    found = []
    for path in paths:
        data = read(path, INSPECTED_DOCUMENT, code="manifest-size")
        try:
            found.append(read_manifest(data, file=path.name, authorities=authorities, trust=trust, at=at))
        except InspectionRefused as error:
            raise InspectionRefused(error.code, f"{path.name}: {error.message}{_other(data)}") from None
    return found


def _other(data: bytes) -> str:
    """Return where a file belongs that is no manifest, as the end of a sentence; nothing where that is not known."""
    from attestd.inspection.kinds import kind_of

    kind = kind_of(data)
    if kind is None or kind.command in ("rim", "corim"):
        return ""
    if kind.command == "eventlog":
        return f"; it looks like {kind.name}: --support-log takes the ones that a manifest lists"
    return f"; it looks like {kind.name}: attestd inspect {kind.command}"


def _written(
    manifests: "list[Manifest]",
    support_logs: list[Path],
    reading: Any,
    base: "tuple[Profile, str] | None",
    *,
    name: str,
    version: int | None,
    replace: bool,
) -> "tuple[str, Values, Draft]":
    """Return the profile's text, the values in it, and what became of them."""
    from attestd.cli.inspect_files import read
    from attestd.protocol.limits import MAX_EVENT_LOG
    from attestd.reference.manifest_profile import draft
    from attestd.reference.manifest_values import values_of
    from attestd.reference.manifest_yaml import new_text, next_text
    from attestd_pki.names import parse_label

    label = parse_label(name)
    logs = {path.name: read(path, MAX_EVENT_LOG, code="eventlog-size") for path in support_logs}
    if len(logs) < len(support_logs):
        raise CommandFailed("support-log-twice", "two support logs have one name")
    values = values_of(manifests, logs, reading)
    if base is None:
        made = draft(values, None)
        return new_text(made, values, manifests, name=label, version=version or 1), values, made
    profile, text = base
    made = draft(values, profile, replaced=replace)
    number = version or profile.version + 1
    return next_text(text, profile, made, values, manifests, name=label, version=number), values, made


def _document(
    output: Path, profile: "Profile", manifests: "list[Manifest]", values: "Values", made: "Draft"
) -> dict[str, Any]:
    return {
        "profile": profile.name,
        "version": profile.version,
        "sha256": profile.digest.hex(),
        "file": str(output),
        "judges": profile.requires_something,
        "vouched": all(one.source.signer is not None for one in manifests),
        "manifests": [_source(one.source) for one in manifests],
        "support_logs": [{"file": log, "hash": digest, "manifest": file} for log, digest, file in values.logs],
        "claims": {claim: len(rules) for claim, rules in values.claims.items()},
        "pcrs": {str(index): len(digests) for index, digests in values.registers.items()},
        "paths": len(values.files),
        "notes": list(made.told),
        "left_out": [{"manifest": one.file, "what": one.what, "why": one.why} for one in made.left_out],
    }


def _source(one: "Source") -> dict[str, Any]:
    return {
        "file": one.file,
        "format": one.kind,
        "id": one.identity,
        "version": one.version,
        "maker": one.maker,
        "signer": one.signer,
        "deviations": list(one.deviations),
    }


def _show(console: "Console", document: dict[str, Any]) -> None:
    numbers = (("claim", len(document["claims"])), ("register", len(document["pcrs"])), ("path", document["paths"]))
    counts = ", ".join(counted(number, what) for what, number in numbers)
    written = f"Wrote {document['file']}: {document['profile']} v{document['version']}, {counts}."
    show_line(console, written, style="green")
    for one in document["manifests"]:
        who = f"signed by {one['signer']}" if one["signer"] else "NOBODY VOUCHES FOR IT"
        style = "" if one["signer"] else "red"
        show_line(console, f"  {one['file']}: {one['maker']}, {one['id']} {one['version']}: {who}", style=style)
        for deviation in one["deviations"]:
            show_line(console, f"    ! {deviation}", style="yellow")
    for note in document["notes"]:
        show_line(console, f"! {note}", style="yellow")
    for one in document["left_out"][:_SHOWN]:
        show_line(console, f"! left out: {one['what']}: {one['why']} ({one['manifest']})", style="yellow")
    if len(document["left_out"]) > _SHOWN:
        show_line(console, f"! left out: {len(document['left_out']) - _SHOWN} more (--json has all)", style="yellow")
    if not document["judges"]:
        show_line(
            console,
            "It requires nothing of the boot, so nothing passes it: put it onto a profile (--onto).",
            style="red",
        )
        return
    show_line(console, f"Read it, then: {next_step(document['file'])}")
