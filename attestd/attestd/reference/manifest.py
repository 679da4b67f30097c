"""A maker's manifest, once it is known whose it is: what it says of registers, files and logs, each with where it was said.

Proves that a manifest's signature holds and is a given key's, or leads to a given anchor at the given instant, without any
exception: no SHA-1, nothing expired. The one way around it is to say so (`Trust.ANYBODY`), and then the manifest is called unsigned
wherever its values go. Does not say that the maker is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from attestd.evidence.labels import printable
from attestd.inspection.authority import Authorities, Verdict
from attestd.inspection.comidprofiles import rules_for
from attestd.inspection.corim import CorimReport, read_corim
from attestd.inspection.measurement import Measurement
from attestd.inspection.refused import InspectionRefused
from attestd.inspection.rim import RimReport, read_rim
from attestd.inspection.swid import CoswidReport, File
from attestd_pki.times import in_words

_SHOWN: Final = 80
"""Characters of a name out of a manifest in a comment."""
_MAKERS: Final = ("softwarecreator", "software creator", "creator", "tagcreator", "tag creator", "maintainer")
_REQUIRES: Final = "requires"


class ManifestRefused(ValueError):
    """A manifest that is not imported. `code` is stable; `left_out` are sentences on what could not be used."""

    def __init__(self, code: str, message: str, *, left_out: Sequence[str] = ()) -> None:
        """Keep the code beside the sentence."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.left_out = tuple(left_out)


@unique
class Trust(Enum):
    """Whose word counts."""

    AUTHORITIES = "authorities"
    """Who signed with a given key, or by a certificate that leads to a given anchor."""
    ANYBODY = "anybody"
    """Also who did not sign, or whose signature nobody was given a key for.

    A signature that does not hold is refused all the same.
    """


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from: the file, the manifest in it, its maker, and who signed it (None: nobody that is known)."""

    file: str
    kind: str
    identity: str
    version: str
    maker: str
    signer: str | None
    deviations: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Return the source as the comment beside a value."""
        version = f" v{self.version}" if self.version else ""
        signed = "" if self.signer is not None else ", NOT SIGNED"
        return f"{_short(self.maker)}: {_short(self.identity)}{version} ({_short(self.file)}{signed})"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One manifest. `files` are its tags' files; `support` those of them that are support logs of a reference manifest.

    `measured` are its reference values as (environment, measurement); `numbers_are_registers`: its profile says so. `builds_on`: it
    continues another manifest's boot.
    """

    source: Source
    files: tuple[File, ...]
    support: tuple[File, ...]
    measured: tuple[tuple[str, Measurement], ...]
    numbers_are_registers: bool
    builds_on: bool


def read_manifest(data: bytes, *, file: str, authorities: Authorities, trust: Trust, at: int) -> Manifest:
    """Return a RIM, SWID tag, CoSWID or CoRIM whose word counts at `at` (unix seconds). `file` is what to call it.

    *Raises* `ManifestRefused`: "manifest-unsigned", "anchor-needed", "manifest-weak-hash", "manifest-expired",
    "manifest-not-yet-valid", and the codes of a signature or a path that does not hold; `InspectionRefused` for what cannot be
    read.
    """
    report = _read(data, authorities, at=at)
    signer = _signer(report.verdict, report.reasons, authorities, trust, file)
    if isinstance(report, CorimReport):
        _check_validity(report.validity, at, file)
        return _corim(report, file, signer)
    return _rim(report, file, signer)


def _read(data: bytes, authorities: Authorities, *, at: int) -> RimReport | CorimReport:
    if data[:64].lstrip().startswith((b"{", b"[")):
        raise ManifestRefused("manifest-unknown", "JSON: manifests are XML (SWID, RIM) or CBOR (CoSWID, CoRIM)")
    try:
        return read_corim(data, authorities, at=at)
    except InspectionRefused as error:
        if error.code not in ("corim-malformed", "cbor-malformed", "cbor-size"):
            raise
        first = error
    try:
        return read_rim(data, authorities, at=at)
    except InspectionRefused as error:
        # Of a CoRIM that cannot be read it says nothing that it is no CoSWID either.
        raise (first if error.code == "coswid-malformed" else error) from None


def _signer(
    verdict: Verdict | None,
    reasons: Sequence[tuple[str, str]],
    authorities: Authorities,
    trust: Trust,
    file: str,
) -> str | None:
    """Return who vouches for the manifest; None where nobody does and that was asked for."""
    if reasons:
        raise ManifestRefused(reasons[0][0], f"{file}: {reasons[0][1]}")
    if verdict is not None and any(one.startswith("sha1-") for one in verdict.deviations):
        raise ManifestRefused(
            "manifest-weak-hash", f"{file}: signed over SHA-1, for which another document can be made"
        )
    if verdict is not None and verdict.vouched:
        return verdict.signer or "a given key"
    if trust is Trust.ANYBODY:
        return None
    if verdict is None:
        message = "nobody signed it, so anybody may have written it (--unsigned takes it all the same)"
        raise ManifestRefused("manifest-unsigned", f"{file}: {message}")
    if not authorities.given:
        message = "say who may sign it: --anchors BUNDLE.pem or --key FILE"
        raise ManifestRefused("anchor-needed", f"{file}: {message}")
    raise ManifestRefused("manifest-signer-unknown", f"{file}: no given key or anchor stands behind its signature")


def _check_validity(validity: tuple[int | None, int | None], at: int, file: str) -> None:
    begins, ends = validity
    if ends is not None and at > ends:
        raise ManifestRefused("manifest-expired", f"{file}: it was valid until {in_words(ends)}, it is {in_words(at)}")
    if begins is not None and at < begins:
        raise ManifestRefused(
            "manifest-not-yet-valid", f"{file}: it is valid from {in_words(begins)}, it is {in_words(at)}"
        )


def _rim(report: RimReport, file: str, signer: str | None) -> Manifest:
    tag = report.tags[0] if report.tags else CoswidReport("", "", None, (), ())
    fields = {name.lower(): value for name, value in report.fields}
    maker = _maker(tag.entities) or fields.get("platformmanufacturerstr", "")
    source = Source(
        file, report.kind, tag.identity, tag.version or "", maker or "no maker", signer, _deviations(report.verdict)
    )
    return Manifest(
        source,
        tuple(one for tag in report.tags if not tag.manifest for one in tag.files),
        tuple(one for tag in report.tags if tag.manifest for one in tag.files),
        (),
        numbers_are_registers=False,
        builds_on=any(rel == _REQUIRES for rel, _ in report.links),
    )


def _corim(report: CorimReport, file: str, signer: str | None) -> Manifest:
    rules = rules_for(report.profile)
    versions = {str(one.version) for one in report.comids if one.version is not None}
    versions |= {one.version for one in report.coswids if one.version}
    makers = _maker(report.entities) or next((_maker(tag.entities) for tag in report.coswids), "")
    source = Source(
        file,
        report.kind,
        report.identity,
        ", ".join(sorted(versions)),
        makers or report.says_signer or "no maker",
        signer,
        _deviations(report.verdict),
    )
    return Manifest(
        source,
        tuple(one for tag in report.coswids for one in tag.files),
        (),
        tuple(one for comid in report.comids for one in comid.measured),
        numbers_are_registers=rules is not None and rules.key_is_register,
        builds_on=bool(report.rims),
    )


def _deviations(verdict: Verdict | None) -> tuple[str, ...]:
    return () if verdict is None else verdict.deviations


def _maker(entities: Sequence[str]) -> str:
    """Return the name of whoever made the software, out of texts like "ACME (softwareCreator tagCreator)"."""
    for role in _MAKERS:
        for one in entities:
            name, _, roles = one.rpartition(" (")
            if role in roles.lower():
                return name
    return entities[0].rpartition(" (")[0] if entities else ""


def _short(text: str) -> str:
    shown = printable(text.rpartition("/")[2] if "/" in text and len(text) > _SHOWN else text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
