"""`attestd profile files`: which files a class of devices may run, out of what will be installed on them.

Writes one YAML file and nothing else; no machine, no verifier and no root are needed.
"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attestd.cli.answer import answer, show_line, show_table
from attestd.cli.drafts import Output, read_profile, require_free, write_new
from attestd.cli.failures import CommandFailed
from attestd.cli.options import Json, existing_file
from attestd.cli.text import counted, next_step

if TYPE_CHECKING:
    from rich.console import Console

    from attestd.appraisal.policy import Profile
    from attestd.reference.debian import Layout
    from attestd.reference.files import AllowList


class Hash(StrEnum):
    """What the devices' kernels hash files with (`ima_hash=`)."""

    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"


Patterns = list[str] | None


def files(
    places: Annotated[
        list[Path],
        typer.Argument(
            exists=True,
            help="Root file systems (directories, tar archives, ext4 or disk images), initramfs and unified kernel "
            "images, .deb packages.",
            show_default=False,
        ),
    ],
    output: Output,
    onto: Annotated[
        Path | None,
        existing_file("A profile to add the files to: its next version is written, its comments stay."),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="With --onto: the profile lists these files, and no longer those from before."),
    ] = False,
    root: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="The tree in which the directories lie that are not trees themselves.",
            show_default=False,
        ),
    ] = None,
    partition: Annotated[
        int | None,
        typer.Option(min=1, help="Of a disk image with several file systems, the one.", show_default=False),
    ] = None,
    name: Annotated[str, typer.Option(help="The profile's name; default: the output's.", show_default=False)] = "",
    version: Annotated[
        int | None, typer.Option(min=1, help="The profile's version; default: 1.", show_default=False)
    ] = None,
    only: Annotated[
        Patterns,
        typer.Option(help="List only paths like this (* stands for anything). May be repeated.", show_default=False),
    ] = None,
    exclude: Annotated[
        Patterns, typer.Option(help="Leave out paths like this. May be repeated.", show_default=False)
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all/--executables", help="Every regular file, or what runs: programs, libraries, modules."),
    ] = False,
    firmware: Annotated[bool, typer.Option("--firmware", help="Also what is under /lib/firmware.")] = False,
    hashes: Annotated[
        list[Hash] | None,
        typer.Option("--hash", help="The kernels' ima_hash. May be repeated.", show_default="sha256"),
    ] = None,
    merged_usr: Annotated[
        bool | None,
        typer.Option(
            "--merged-usr/--no-merged-usr",
            help="Whether /bin, /sbin and /lib of the devices are links into /usr, for packages that ship files there; "
            "default: both paths are listed.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List which files may run, with their digests, out of file systems, images and packages: a profile's runtime part."""
    from attestd.cli.artefacts import collect_files
    from attestd.reference.files import Wish
    from attestd_pki.names import parse_label

    wish = Wish(
        everything=everything,
        firmware=firmware,
        only=tuple(only or ()),
        exclude=tuple(exclude or ()),
        hashes=tuple(dict.fromkeys(one.value for one in hashes or [Hash.SHA256])),
    )
    if onto is not None and (name or version is not None):
        raise typer.BadParameter("--onto takes name and version from the profile: leave out --name and --version")
    if replace and onto is None:
        raise typer.BadParameter("--replace needs the profile of which it replaces the files: --onto")
    require_free(output)
    label = "" if onto is not None else parse_label(name or output.stem)
    listed = collect_files(places, root=root, partition=partition, wish=wish, layout=_layout(merged_usr))
    profile = _write(output, _text(listed, onto, label, version or 1, replace_all=replace))
    document = _document(output, profile, listed)
    answer(document, lambda console: _show(console, document), as_json=as_json)


def _layout(merged_usr: bool | None) -> "Layout":
    from attestd.reference.debian import Layout

    return Layout.EITHER if merged_usr is None else Layout.MERGED if merged_usr else Layout.APART


def _text(listed: "AllowList", onto: Path | None, name: str, version: int, *, replace_all: bool) -> str:
    """Return the document to write. *Raises* CommandFailed, ProfileError."""
    from attestd.reference import allowlist
    from attestd.reference.files import ArtefactRefused

    try:
        if onto is None:
            return allowlist.document(listed, name=name, version=version)
        return allowlist.onto(read_profile(onto)[1], listed, replace_all=replace_all)
    except ArtefactRefused as error:
        raise CommandFailed(error.code, error.message) from None


def _write(output: Path, text: str) -> "Profile":
    from attestd.appraisal.profile import parse_profile_yaml

    profile = parse_profile_yaml(text)
    write_new(output, text)
    return profile


def _document(output: Path, profile: "Profile", listed: "AllowList") -> dict[str, Any]:
    return {
        "file": str(output),
        "profile": profile.name,
        "version": profile.version,
        "sha256": profile.digest.hex(),
        "paths": len(profile.runtime.allow),
        "judges": profile.requires_something,
        "places": [
            {"place": one.name, "kind": one.kind, "files": one.files, "listed": len(one.digests), "bytes": one.size}
            for one in listed.places
        ],
        "findings": [
            {"code": one.code, "place": one.place, "path": one.path, "message": one.message} for one in listed.findings
        ],
    }


def _show(console: "Console", document: dict[str, Any]) -> None:
    columns = ("place", "kind", "files", "listed")
    rows = [[place[column] for column in columns] for place in document["places"]]
    show_table(console, columns, rows, empty="")
    for one in document["findings"]:
        show_line(console, f"{one['place']}: {one['path']}: {one['message']} [{one['code']}]", style="yellow")
    show_line(
        console,
        f"Wrote {document['file']}: {document['profile']} v{document['version']} allows {counted(document['paths'], 'path')}.",
        style="green",
    )
    show_line(console, "Read it: whatever is wrong in these places is accepted by it.")
    if not document["judges"]:
        show_line(
            console,
            "It says nothing of the boot, so nothing passes it: put it onto a profile (--onto).",
            style="yellow",
        )
    else:
        show_line(console, f"Then: {next_step(document['file'])}")
