"""`attestd profile`: what classes of devices must look like. Drafts are files; what is active was signed by operators."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attestd.cli import allowlist, decision, failures, manifests, predict, simulate
from attestd.cli.answer import answer, show_line, show_table
from attestd.cli.drafts import Output, read_profile, write_new
from attestd.cli.failures import CommandFailed
from attestd.cli.inventory import book_at
from attestd.cli.options import Directory, Json, Key, once_more
from attestd.cli.session import load, verifier_at
from attestd.cli.text import counted

if TYPE_CHECKING:
    from attestd.appraisal.policy import Profile
    from attestd.evidence.types import AuthenticatedEvidence

commands = typer.Typer(
    no_args_is_help=True,
    help="Profiles: learn, predict, import, files; check, add, simulate; stage, shadow, activate, retire; list, show.",
)

Document = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A profile in YAML.", show_default=False)]
Name = Annotated[str, typer.Argument(help="The profile's name.", show_default=False)]
_DRAFTS = Path("profiles")


def _require_label(name: str) -> str:
    """Return a profile's name if it can be used. *Raises* PkiError (label-malformed)."""
    from attestd_pki.names import parse_label

    return parse_label(name)


@commands.command("learn")
def learn(
    evidence: Annotated[
        list[Path],
        typer.Argument(
            exists=True, file_okay=False, help="Directories that `attestd-agent quote -o` wrote.", show_default=False
        ),
    ],
    output: Output,
    name: Annotated[str, typer.Option(help="The profile's name; default: the file's.", show_default=False)] = "",
    version: Annotated[int, typer.Option(min=1, help="The profile's version.")] = 1,
    as_json: Json = False,
) -> None:
    """Write a first profile out of good machines' evidence. Read it before you use it: whatever was wrong there is accepted."""
    from attestd.appraisal.learn import CannotLearn
    from attestd.appraisal.learn import learn as write
    from attestd.appraisal.profile import parse_profile_yaml

    label = _require_label(name or output.stem)
    try:
        text = write([_reference(place) for place in evidence], name=label, version=version)
    except CannotLearn as error:
        raise CommandFailed("evidence-unsound", str(error)) from None
    profile = parse_profile_yaml(text)
    write_new(output, text)
    document = {**_document(profile), "file": str(output), "machines": len(evidence)}
    answer(document, lambda console: _show_learnt(console, document), as_json=as_json)


def _reference(place: Path) -> "AuthenticatedEvidence":
    """Return the evidence in a directory. *Raises* Refused, CommandFailed, which names the directory."""
    from attestd.services.declined import Declined
    from attestd.services.reference_machine import reference_evidence

    try:
        return reference_evidence(_files(place))
    except Declined as error:
        raise CommandFailed(error.code, f"{place}: {error}") from None


def _files(place: Path) -> dict[str, bytes]:
    """Return the files of an evidence directory. *Raises* CommandFailed (evidence-too-large)."""
    from attestd.services.reference_machine import FILES

    found: dict[str, bytes] = {}
    for name, most in FILES.items():
        path = place / name
        if path.is_file():
            with path.open("rb") as file:
                found[name] = file.read(most + 1)
            if len(found[name]) > most:
                raise CommandFailed("evidence-too-large", f"{path} exceeds {most} bytes")
    return found


def _show_learnt(console: Any, document: dict[str, Any]) -> None:
    show_line(
        console,
        f"Wrote {document['file']}: {document['claims']} claims of {counted(document['machines'], 'machine')}.",
        style="green",
    )
    # Learning needs no verifier, so nothing says here which one it will be.
    show_line(
        console, f"Read it, then: attestd profile add {document['file']} --activate -d DIRECTORY (the verifier's)"
    )


def _document(profile: "Profile") -> dict[str, Any]:
    return {
        "profile": profile.name,
        "version": profile.version,
        "description": profile.description,
        "sha256": _digest(profile),
        "claims": len(profile.claims),
        "interval": profile.interval,
        "deadline": profile.deadline,
    }


def _digest(profile: "Profile") -> str:
    import hashlib

    return hashlib.sha256(profile.document).hexdigest()


@commands.command("check")
def check(file: Document, as_json: Json = False) -> None:
    """Read a profile and say what it requires; the exit code is 1 where it is not one, or requires nothing."""
    from attestd.appraisal.policy import Check

    profile, _ = read_profile(file)
    _require_label(profile.name)
    requires = [policy.claim for policy in profile.claims if policy.check in (Check.REQUIRED, Check.ABSENT)]
    judged = bool(requires) or any(register.values for register in profile.registers)
    document = {**_document(profile), "requires": requires, "judges": judged}

    def show(console: Any) -> None:
        show_line(console, f"{profile.name} v{profile.version}, sha256 {document['sha256']}", style="bold")
        rows = [
            (one.claim, one.check.value, len(one.accept) or None, "all" if one.complete else None)
            for one in profile.claims
        ]
        show_table(console, ("claim", "check", "accepts", "complete"), rows, empty="It judges no claim.")
        if not judged:
            show_line(console, "It requires nothing, so nothing can satisfy it. [policy-empty]", style="red")

    answer(document, show, as_json=as_json)
    if not judged:
        raise typer.Exit(failures.REFUSED)


@commands.command("add")
def add(
    file: Document,
    activate: Annotated[
        bool, typer.Option("--activate", help="Also sign and activate it, as `profile activate` does.")
    ] = False,
    key: Key = None,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Keep a profile beside the configuration, as a draft. A draft decides nothing until it is activated."""
    from attestd.cli.setup import files

    profile, text = read_profile(file)
    place = _draft(load(directory).directory, _require_label(profile.name), profile.version)
    if activate:
        if place.exists() and place.read_text(encoding="utf-8") != text:
            raise _taken(place)
        if not place.exists():
            files.create(place, text.encode(), mode=files.PUBLIC)
        _activate(profile, directory, key, as_json)
        return
    try:
        files.create(place, text.encode(), mode=files.PUBLIC)
        said = f"Kept {profile.name} v{profile.version} as a draft."
    except files.FileExists:
        if place.read_text(encoding="utf-8") != text:
            raise _taken(place) from None
        said = f"{profile.name} v{profile.version} is kept already: attestd profile list says what it is."
    document = {**_document(profile), "file": str(place)}

    def show(console: Any) -> None:
        show_line(console, said, style="green")
        shown = f"{profile.name} {profile.version}{once_more(directory)}"
        show_line(
            console,
            f"  attestd profile simulate {shlex.quote(str(file))}{once_more(directory)}  # who would be refused",
        )
        show_line(console, f"  attestd profile stage {shown}  # signed, to be watched")
        show_line(console, f"  attestd profile activate {shown}  # signed, to count")

    answer(document, show, as_json=as_json)


def _draft(place: Path, name: str, version: int) -> Path:
    return place / _DRAFTS / f"{name}-{version}.yaml"


def _taken(place: Path) -> CommandFailed:
    return CommandFailed("file-exists", f"{place} is another document: give yours the next version number")


def _activate(profile: "Profile", directory: Path | None, key: Path | None, as_json: bool) -> None:
    said = f"Activated {profile.name} v{profile.version}"
    decision.make(
        directory, "profile-activate", profile.name, body=profile.document, key=key, as_json=as_json, said=said
    )


@commands.command("activate")
def activate(
    name: Name,
    version: Annotated[int, typer.Argument(min=1, help="The draft's version.", show_default=False)],
    key: Key = None,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Sign a draft or a staged version: devices may look like it from now on. Older versions stay active until they are retired."""
    place = _draft(load(directory).directory, _require_label(name), version)
    staged = [] if place.is_file() else [one for one in book_at(directory).staged(name) if one.version == version]
    if staged:
        said = f"Activated {name} v{version}"
        body = staged[0].document
        decision.make(directory, "profile-activate", name, body=body, key=key, as_json=as_json, said=said)
        return
    _activate(_kept_draft(place, name, version), directory, key, as_json)


def _kept_draft(place: Path, name: str, version: int) -> "Profile":
    """Return the draft that is kept as this version. *Raises* CommandFailed (profile-unknown, profile-malformed)."""
    if not place.is_file():
        raise CommandFailed("profile-unknown", f"there is no draft {place}: attestd profile add FILE")
    profile, _ = read_profile(place)
    if (profile.name, profile.version) != (name, version):
        raise CommandFailed("profile-malformed", f"{place} says that it is {profile.name} v{profile.version}")
    return profile


@commands.command("stage")
def stage(
    name: Name,
    version: Annotated[int, typer.Argument(min=1, help="The draft's version.", show_default=False)],
    key: Key = None,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Sign a draft to be watched: it is held against what devices prove, shown, and decides nothing until it is activated."""
    profile = _kept_draft(_draft(load(directory).directory, _require_label(name), version), name, version)
    said = f"Staged {name} v{version}"
    decision.make(directory, "profile-stage", name, body=profile.document, key=key, as_json=as_json, said=said)


@commands.command("retire")
def retire(
    name: Name,
    versions: Annotated[
        list[int], typer.Argument(min=1, help="Versions that are active or staged.", show_default=False)
    ],
    key: Key = None,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Sign that these versions are good no longer, or that staged ones are withdrawn. None of them ever comes back."""
    from attestd.changes import canonical

    numbers = sorted(set(versions))
    body = canonical.write({"profile": _require_label(name), "versions": numbers})
    said = f"Retired {name} v{', v'.join(map(str, numbers))}"
    decision.make(directory, "profile-retire", name, body=body, key=key, as_json=as_json, said=said)


@commands.command("list")
def list_(directory: Directory = None, as_json: Json = False) -> None:
    """List profiles: active, staged, retired, withdrawn and draft versions; of staged ones, how many devices would pass."""
    from dataclasses import asdict

    from attestd.changes.profiles import Standing
    from attestd.services import shadow

    rows: list[dict[str, Any]] = []
    with verifier_at(directory) as verifier, verifier.store.read() as connection:
        for name, state in verifier.policy.book(connection).profiles.items():
            for standing, one in state.versions():
                row = {"profile": name, "version": one.version, "status": standing.value, "sha256": one.digest.hex()}
                if standing is Standing.STAGED:
                    row["shadow"] = asdict(shadow.count(connection, name, one.digest))
                rows.append(row)
    known = {(row["profile"], row["version"]) for row in rows}
    rows += [
        {"profile": name, "version": version, "status": "draft", "sha256": None}
        for name, version in _drafts(load(directory).directory)
        if (name, version) not in known
    ]
    rows.sort(key=lambda row: (row["profile"], row["version"]))
    answer({"profiles": rows}, lambda console: _show_list(console, rows), as_json=as_json)


def _show_list(console: Any, rows: list[dict[str, Any]]) -> None:
    columns = ("profile", "version", "status", "sha256")
    watched = any("shadow" in row for row in rows)
    cells = [
        (*(row[column] for column in columns), *((_watched(row.get("shadow")),) if watched else ())) for row in rows
    ]
    heads = (*columns, "in shadow") if watched else columns
    show_table(console, heads, cells, empty="There is no profile: attestd profile learn.")


def _watched(shadow: dict[str, int] | None) -> str | None:
    """Return what a staged version has said so far, in words; the counts that are zero are left out, but for the passes."""
    if shadow is None:
        return None
    words = {"passes": "would pass", "warns": "would be warned about", "fails": "would fail"}
    words |= {"untold": "cannot be told", "unseen": "not yet seen"}
    return ", ".join(f"{shadow[name]} {said}" for name, said in words.items() if shadow[name] or name == "passes")


def _drafts(place: Path) -> list[tuple[str, int]]:
    found = []
    for path in sorted((place / _DRAFTS).glob("*-*.yaml")):
        name, _, number = path.stem.rpartition("-")
        if name and number.isascii() and number.isdigit() and len(number) <= 10:
            found.append((name, int(number)))
    return found


@commands.command("show")
def show(
    name: Name,
    version: Annotated[
        int | None, typer.Argument(min=1, help="Default: the latest active one.", show_default=False)
    ] = None,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Show a version's document as it was signed: canonical JSON. Of a draft, the YAML."""
    import json

    state = book_at(directory).profiles.get(name)
    named = () if state is None else tuple(one for _, one in state.versions() if version in (None, one.version))
    latest = state.active[-1:] if state is not None and version is None and state.active else named[-1:]
    if latest:
        document = json.loads(latest[0].document)
        text = json.dumps(document, indent=2)
    else:
        place = _draft(load(directory).directory, _require_label(name), version or 1)
        if not place.is_file():
            raise CommandFailed("profile-unknown", f"there is no profile {name} of that version: attestd profile list")
        text = read_profile(place)[1]
        document = {"draft": text}

    def render(console: Any) -> None:
        for line in text.splitlines():
            show_line(console, line, whole=True)

    answer(document, render, as_json=as_json)


commands.command("simulate")(simulate.simulate)
commands.command("shadow")(simulate.shadow)
commands.command("files")(allowlist.files)
commands.command("predict")(predict.predict)
commands.command("import")(manifests.import_)
