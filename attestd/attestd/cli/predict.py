"""`attestd profile predict`: what a boot will measure, out of what will be installed, before any machine boots it.

Reads the artefacts, writes one YAML file if it is told where, and nothing else; no machine, no verifier and no root are needed.
"""

import mmap
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import typer

from attestd.cli.answer import answer, show_line, show_table
from attestd.cli.drafts import read_profile, require_free, write_new
from attestd.cli.failures import CommandFailed
from attestd.cli.options import Json, existing_file
from attestd.cli.text import next_step

if TYPE_CHECKING:
    from rich.console import Console

    from attestd.reference.boot import Artefact
    from attestd.reference.draft import Draft
    from attestd.reference.predict import Prediction
    from attestd.reference.secureboot import Database


class Bank(StrEnum):
    """The registers that devices quote."""

    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"


class Loader(StrEnum):
    """Who starts the kernel."""

    UKI = "uki"
    GRUB = "grub"
    SYSTEMD_BOOT = "systemd-boot"
    DIRECT = "direct"


class Switch(StrEnum):
    """Whether Secure Boot is on."""

    ON = "on"
    OFF = "off"


_OWNED: Final = re.compile(r"([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}):(.+)")
_TABLE_BYTES: Final = 2 << 20
"""Bytes of a disk that a partition table can lie in: 256 entries of 4 KiB, and what is before them."""


def _keys(help: str) -> Any:
    return typer.Option(help=help, metavar="[GUID:]FILE", show_default=False)


def predict(
    unified: Annotated[Path | None, existing_file("A unified kernel image.", "--uki")] = None,
    loader: Annotated[
        Path | None, existing_file("What firmware starts: shim, a boot loader. Default: the kernel image itself.")
    ] = None,
    applications: Annotated[
        list[Path] | None,
        typer.Option("--application", help="What is started after it, in order: GRUB. May be repeated."),
    ] = None,
    kernel: Annotated[Path | None, existing_file("A kernel that is not in a unified image.")] = None,
    initrds: Annotated[
        list[Path] | None, typer.Option("--initrd", help="Its initial ramdisk; for GRUB, several in order.")
    ] = None,
    cmdline: Annotated[
        str | None,
        typer.Option(help="The command line as the boot loader has it (GRUB: the kernel's path first), or @FILE."),
    ] = None,
    commands: Annotated[
        list[str] | None, typer.Option("--grub-command", help="A further command that GRUB runs. May be repeated.")
    ] = None,
    loader_conf: Annotated[Path | None, existing_file("The loader.conf of systemd-boot.")] = None,
    boot_loader: Annotated[
        Loader | None, typer.Option(help="Who starts the kernel; default: told by the files.")
    ] = None,
    disk: Annotated[Path | None, existing_file("The disk's image, for its partition table.")] = None,
    gpt: Annotated[Path | None, existing_file("The partition table alone, as sgdisk --backup writes it.")] = None,
    pk: Annotated[list[str] | None, _keys("The platform key: lists (.esl), an update (.auth), a certificate.")] = None,
    kek: Annotated[list[str] | None, _keys("The key exchange keys. All of these may be repeated.")] = None,
    db: Annotated[list[str] | None, _keys("What may boot; a certificate or digests need their owner's GUID.")] = None,
    dbx: Annotated[list[str] | None, _keys("What may not boot: all of it, as it will be in the variable.")] = None,
    secure_boot: Annotated[
        Switch | None, typer.Option(help="Whether Secure Boot will be on.", show_default=False)
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True, help="Also list the files that may run, as `attestd profile files` does. May be repeated."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The YAML file to write; it must not exist. Default: write none.", show_default=False
        ),
    ] = None,
    onto: Annotated[
        Path | None, existing_file("A profile to add the values to: its next version is written, its comments stay.")
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="With --onto: predicted claims accept what is predicted, and nothing else."),
    ] = False,
    name: Annotated[str, typer.Option(help="The profile's name; default: the output's, or that of --onto.")] = "",
    version: Annotated[
        int | None, typer.Option(min=1, help="Its version; default: 1, or the next.", show_default=False)
    ] = None,
    bank: Annotated[Bank, typer.Option(help="The registers that devices quote.")] = Bank.SHA256,
    as_json: Json = False,
) -> None:
    """Predict a boot from its artefacts: claims for a profile, and the register values that follow from artefacts alone."""
    from attestd.reference.boot import Style
    from attestd.reference.files import ArtefactRefused
    from attestd.reference.predict import Boot
    from attestd.reference.predict import predict as foresee

    _require_usage(output=output, onto=onto, replace=replace, disk=disk, gpt=gpt)
    try:
        wanted = Boot(
            loader=_optional(loader),
            applications=_several(applications),
            unified=_optional(unified),
            kernel=_optional(kernel),
            initrds=_several(initrds),
            line=_line(cmdline),
            commands=tuple(commands or ()),
            disk=_disk(disk or gpt),
            loader_conf=_optional(loader_conf),
            databases=_databases(PK=pk, KEK=kek, db=db, dbx=dbx),
            secure_boot=None if secure_boot is None else secure_boot is Switch.ON,
            style=None if boot_loader is None else Style(boot_loader.value),
        )
        found = foresee(wanted, bank.value)
        draft = _draft(found, onto, replace=replace, name=name, version=version, output=output, files=files or [])
    except ArtefactRefused as error:
        raise CommandFailed(error.code, error.message) from None
    if output is not None:
        write_new(output, draft.text)
    document = _document(found, draft, output)
    answer(document, lambda console: _show(console, document, onto=onto is not None), as_json=as_json)


def _require_usage(
    *, output: Path | None, onto: Path | None, replace: bool, disk: Path | None, gpt: Path | None
) -> None:
    if replace and onto is None:
        raise typer.BadParameter("--replace is about the values of a profile: --onto P.yaml")
    if disk is not None and gpt is not None:
        raise typer.BadParameter("--disk and --gpt name the same thing: give one of them")
    if output is not None:
        require_free(output)


def _optional(path: Path | None) -> "Artefact | None":
    return None if path is None else _mapped(path)


def _several(paths: list[Path] | None) -> "tuple[Artefact, ...]":
    from attestd.protocol.limits import MAX_BOOT_ARTEFACTS

    if len(paths or ()) > MAX_BOOT_ARTEFACTS:
        raise typer.BadParameter(f"at most {MAX_BOOT_ARTEFACTS} files of one kind")
    return tuple(_mapped(path) for path in paths or ())


def _mapped(path: Path) -> "Artefact":
    """Return a file, mapped and not read. Its name is the last part of its path: a build's directories are nobody's business."""
    from attestd.protocol.limits import MAX_BOOT_IMAGE
    from attestd.reference.boot import Artefact

    with path.open("rb") as file:
        size = path.stat().st_size
        if size > MAX_BOOT_IMAGE:
            raise CommandFailed("image-size", f"{path} has {size} bytes, and at most {MAX_BOOT_IMAGE} are read")
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) if size else memoryview(b"")
    return Artefact(path.name, data)


def _disk(path: Path | None) -> "Artefact | None":
    from attestd.reference.boot import Artefact

    if path is None:
        return None
    with path.open("rb") as file:
        return Artefact(path.name, file.read(_TABLE_BYTES))


def _line(text: str | None) -> str | None:
    """Return a command line, out of a file where it begins with @. *Raises* CommandFailed."""
    if text is None or not text.startswith("@"):
        return text
    with Path(text[1:]).open("rb") as file:
        data = file.read(1 << 16)
    try:
        return data.decode("utf-8").rstrip("\n")
    except UnicodeDecodeError:
        raise CommandFailed("cmdline-text", f"{text[1:]} is not UTF-8 text") from None


def _databases(**given: list[str] | None) -> "tuple[Database, ...]":
    """Return the variables of which files were named. *Raises* ArtefactRefused, OSError."""
    from attestd.protocol.limits import MAX_KEY_FILE
    from attestd.reference.files import ArtefactRefused
    from attestd.reference.secureboot import Database
    from attestd.reference.signaturedatabase import signature_database

    found = []
    for name, values in given.items():
        content, sources = b"", []
        for value in values or ():
            owned = _OWNED.fullmatch(value)
            path = Path(owned[2] if owned else value)
            with path.open("rb") as file:
                data = file.read(MAX_KEY_FILE + 1)
            try:
                content += signature_database(data, owner=UUID(owned[1]) if owned else None)
            except ArtefactRefused as error:
                raise ArtefactRefused(error.code, f"{path}: {error.message}") from None
            sources.append(path.name)
        if values:
            found.append(Database(name, content, ", ".join(sources)))
    return tuple(found)


def _draft(
    found: "Prediction",
    onto: Path | None,
    *,
    replace: bool,
    name: str,
    version: int | None,
    output: Path | None,
    files: list[Path],
) -> "Draft":
    from attestd.cli.artefacts import collect_files
    from attestd.reference import allowlist
    from attestd.reference.draft import new_profile, next_version
    from attestd_pki.names import parse_label

    listed = collect_files(files) if files else None
    if onto is None:
        label = parse_label(name or (output.stem if output is not None else "predicted"))
        return new_profile(
            found, name=label, version=version or 1, runtime=allowlist.runtime_lines(listed) if listed else ()
        )
    old, text = read_profile(onto)
    if listed is not None:
        text = allowlist.onto(text, listed, replace_all=replace)
    label = parse_label(name) if name else ""
    return next_version(text, found, name=label, version=version or old.version + 1, replace=replace)


def _document(found: "Prediction", draft: "Draft", output: Path | None) -> dict[str, Any]:
    return {
        "file": str(output) if output is not None else None,
        "profile": draft.profile.name,
        "version": draft.profile.version,
        "sha256": draft.profile.digest.hex(),
        "bank": found.bank,
        "boot_loader": found.style.value if found.style is not None else None,
        "claims": [
            {
                "claim": one.component.claim,
                "pcr": one.component.pcr,
                "digest": one.component.digest.hex(),
                "value": one.component.value,
                "source": one.source,
                "sure": one.sure,
                "stands_for": one.text or None,
            }
            for one in found.claims
        ],
        "registers": [{"pcr": one.index, "value": one.value.hex(), "when": one.when} for one in found.registers],
        "changes": [
            {"claim": one.claim, "added": one.added, "removed": one.removed, "remark": one.remark}
            for one in draft.changes
        ],
        "open": list(found.remarks),
    }


def _source(one: dict[str, Any]) -> str:
    return f"{one['source']}: {one['stands_for']}" if one["stands_for"] and one["value"] is None else one["source"]


def _show(console: "Console", document: dict[str, Any], *, onto: bool) -> None:
    from attestd.reference.boot import FIRMWARE

    told = [one for one in document["claims"] if one["source"] != FIRMWARE]
    rows = [(one["claim"], one["pcr"], one["value"] or one["digest"], _source(one)) for one in told]
    show_table(console, ("claim", "pcr", document["bank"], "from"), rows, empty="")
    console.print()
    registers = [(one["pcr"], one["value"], one["when"]) for one in document["registers"]]
    show_table(console, ("pcr", document["bank"], "when"), registers, empty="No register follows from these alone.")
    for remark in document["open"]:
        show_line(console, f"Open: {remark}.", style="yellow")
    for change in document["changes"] if onto else ():
        if change["added"] or change["removed"] or change["remark"]:
            remark = f" ({change['remark']})" if change["remark"] else ""
            show_line(console, f"{change['claim']}: {change['added']} added, {change['removed']} removed{remark}")
    if document["file"] is None:
        show_line(console, "Nothing was written: -o FILE writes a profile.")
        return
    show_line(console, f"Wrote {document['file']}: {document['profile']} v{document['version']}.", style="green")
    show_line(console, "Read it: whatever is wrong in these artefacts is accepted by it.")
    show_line(console, f"Then: {next_step(document['file'])}")
