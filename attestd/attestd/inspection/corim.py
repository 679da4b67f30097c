"""A CoRIM for a person: a manifest of reference values and endorsements, signed or not, or one of its tags alone.

Proves the form (draft-ietf-rats-corim, 4 and 5), and with a key or anchors that one of their holders signed. Whether the signer may
speak for a maker is for whoever chose the key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from attestd.inspection.authority import Authorities, Verdict, reporting, signature_document
from attestd.inspection.cborread import Tag, plain_json, read_cbor
from attestd.inspection.comid import ComidReport, read_comid
from attestd.inspection.comidprofiles import ProfileRules, rules_for
from attestd.inspection.cose import SIGN, SIGN1, judge_signed, read_signed
from attestd.inspection.keyfile import read_keys
from attestd.inspection.measurement import text_of
from attestd.inspection.refused import InspectionRefused
from attestd.inspection.report import Reasons, opening
from attestd.inspection.swid import CoswidReport, read_coswid
from attestd_pki.chain import TrustStore

_WRAPPER, _UNSIGNED, _SIGNED, _TOKEN = 500, 501, 502, 61
_CONCISE: Final = {505: "coswid", 506: "comid", 507: "cots", 508: "cotl"}
_ROLES: Final = {0: "tag creator", 1: "creator", 2: "maintainer", 3: "manifest signer"}
_CONTENT: Final = frozenset({"application/rim+cbor", "application/corim-unsigned+cbor", 10570, 10571})
"""What the content type of a signed CoRIM may be, by the revisions of its draft."""
_META, _CLAIMS = 8, 15


@dataclass(frozen=True, slots=True)
class CorimReport:
    """One manifest. `kind` is corim, signed-corim, comid, coswid or cotl.

    `verdict` is who signed it, None where nobody did; `validity` is from when to when it counts, by its own word.
    """

    kind: str
    identity: str
    profile: str | None
    notes: tuple[str, ...]
    reasons: Reasons
    verdict: Verdict | None
    entities: tuple[str, ...] = ()
    comids: tuple[ComidReport, ...] = ()
    coswids: tuple[CoswidReport, ...] = ()
    lists: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Lists of tags (CoTL): whose list, and the tags it makes active together."""
    rims: tuple[str, ...] = ()
    validity: tuple[int | None, int | None] = (None, None)
    says_signer: str | None = None

    @property
    def accepted(self) -> bool:
        """Return whether nothing speaks against it."""
        return not self.reasons

    @property
    def signature_valid(self) -> bool | None:
        """Return whether the signature holds; None where there is none, or no key for it."""
        return None if self.verdict is None else self.verdict.valid

    @property
    def signer(self) -> str | None:
        """Return who signed: by the signed metadata, else by certificate or key."""
        return self.says_signer or (None if self.verdict is None else self.verdict.signer)

    def document(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            **opening(self.reasons, notes=self.notes),
            **signature_document(self.verdict, self.signer),
            "format": self.kind,
            "id": self.identity,
            "profile": self.profile,
            "not_before": self.validity[0],
            "not_after": self.validity[1],
            "dependent_rims": list(self.rims),
            "entities": list(self.entities),
            "tags": [
                {
                    "kind": "comid",
                    "id": one.identity,
                    "triples": dict(one.triples),
                    "statements": [{"kind": k, "environment": e, "says": s} for k, e, s in one.statements],
                }
                for one in self.comids
            ]
            + [{"kind": "coswid", **one.document()} for one in self.coswids]
            + [{"kind": "cotl", "id": name, "active": list(tags)} for name, tags in self.lists],
        }


def refused_corim(code: str, message: str) -> dict[str, Any]:
    """Return the document of bytes that are no manifest."""
    return CorimReport("unknown", "", None, (), ((code, message),), None).document()


def inspect_corim(data: bytes, key: bytes | None = None, store: TrustStore | None = None, *, at: int) -> CorimReport:
    """Return the report on a manifest at `at` (unix seconds); `key` is a file of keys, `store` has authorities, that may sign one.

    *Raises* `InspectionRefused` ("corim-malformed", "comid-malformed", "comid-profile", "coswid-malformed", "key-malformed",
    "cbor-…").
    """
    return read_corim(data, reporting(read_keys(key) if key is not None else (), store), at=at)


def read_corim(data: bytes, authorities: Authorities, *, at: int) -> CorimReport:
    """Return the report on a manifest, whose signer has to be one of the authorities where any are given.

    *Raises* as `inspect_corim`.
    """
    item = read_cbor(data)
    while isinstance(item, Tag) and item.number in (_WRAPPER, _SIGNED, _TOKEN):
        item = item.value
    if (isinstance(item, Tag) and item.number in (SIGN1, SIGN)) or (isinstance(item, list) and len(item) == 4):
        return _signed(item, authorities, at=at)
    if isinstance(item, Tag) and item.number == _UNSIGNED:
        return _corim("corim", item.value, at=at)
    return _alone(item)


def _malformed(message: str) -> InspectionRefused:
    return InspectionRefused("corim-malformed", message)


def _alone(item: Any) -> CorimReport:
    """Read a tag without a manifest around it: a CoMID has an identity and triples."""
    kind = None
    if isinstance(item, Tag) and item.number in _CONCISE:
        kind, item = _CONCISE[item.number], item.value
        item = read_cbor(item) if isinstance(item, bytes) else item
    if isinstance(item, dict) and (kind == "comid" or (kind is None and 4 in item and isinstance(item.get(1), dict))):
        found = read_comid(item)
        return CorimReport("comid", found.identity, None, (), (), None, comids=(found,))
    if isinstance(item, dict) and (kind == "coswid" or (kind is None and isinstance(item.get(1), str))):
        software = read_coswid(item)
        return CorimReport("coswid", software.identity, None, (), (), None, coswids=(software,))
    if kind == "cotl":
        listed = _list_of_tags(item)
        return CorimReport("cotl", listed[0], None, (), (), None, lists=(listed,))
    raise _malformed("neither a CoRIM (tag 501), a signed one (tag 18), nor one of its tags")


def _signed(item: object, authorities: Authorities, *, at: int) -> CorimReport:
    """Read a CoRIM in COSE_Sign1 (4.2)."""
    signatures = read_signed(item, code="corim-malformed")
    signed = signatures[0]
    inner = read_cbor(signed.payload)
    if not (isinstance(inner, Tag) and inner.number == _UNSIGNED):
        raise _malformed("what is signed is no CoRIM")
    verdict = judge_signed(signatures, authorities, at=at, code="corim")
    notes = list(verdict.notes)
    if signed.content_type not in _CONTENT:
        notes.append(f"the content type is {plain_json(signed.content_type)!r}, and no CoRIM's")
    signer, validity = _metadata(signed.header)
    report = _corim("signed-corim", inner.value, at=at, notes=notes)
    _judge_validity(validity, at, notes, what="the signature")
    both = tuple(
        _narrower(one, other, later) for one, other, later in zip(report.validity, validity, (True, False), strict=True)
    )
    return replace(
        report,
        reasons=verdict.reasons,
        verdict=verdict,
        says_signer=signer,
        notes=tuple(notes),
        validity=(both[0], both[1]),
    )


def _narrower(one: int | None, other: int | None, later: bool) -> int | None:
    known = [value for value in (one, other) if value is not None]
    return None if not known else max(known) if later else min(known)


def _metadata(header: Mapping[Any, Any]) -> tuple[str | None, tuple[int | None, int | None]]:
    """Return who the signed metadata says signed, and for how long: corim-meta (header 8), or the claims of a web token (15)."""
    meta = header.get(_META)
    try:
        meta = read_cbor(meta) if isinstance(meta, bytes) else meta
    except InspectionRefused:
        meta = None
    if isinstance(meta, dict):
        signer = meta.get(0)
        name = signer.get(0) if isinstance(signer, dict) else None
        return name if isinstance(name, str) else None, _validity(meta.get(1))
    claims = header.get(_CLAIMS)
    if isinstance(claims, dict):
        name = claims.get(1)
        return name if isinstance(name, str) else None, (_instant(claims.get(5)), _instant(claims.get(4)))
    return None, (None, None)


def _corim(kind: str, value: object, *, at: int, notes: list[str] | None = None) -> CorimReport:
    """Read corim-map (4.1)."""
    notes = notes if notes is not None else ["it is not signed: anybody may have written it"]
    if not isinstance(value, dict):
        raise _malformed("a CoRIM is a map")
    identity = value.get(0)
    if isinstance(identity, Tag):
        identity = text_of(identity)
    if not isinstance(identity, str | bytes) or not identity:
        raise _malformed("a CoRIM has an id")
    profile = _profile(value.get(3))
    rules = rules_for(profile)
    if profile is not None and rules is None:
        notes.append("its profile is not known here: only the form was judged")
    comids, coswids, lists = _tags(value.get(1), rules, notes)
    validity = _validity(value.get(4))
    _judge_validity(validity, at, notes, what="it")
    return CorimReport(
        kind=kind,
        identity=identity if isinstance(identity, str) else identity.hex(),
        profile=profile,
        notes=tuple(notes),
        reasons=(),
        verdict=None,
        entities=tuple(_entities(value.get(5))),
        comids=comids,
        coswids=coswids,
        lists=lists,
        rims=tuple(_dependent(value.get(2))),
        validity=validity,
    )


def _profile(value: object) -> str | None:
    """Return a URI as it is, an object identifier with dots."""
    return None if value is None else text_of(value)


def _dependent(value: object) -> list[str]:
    """Return the manifests that this one builds on: corim-locator-map, its first address."""
    found = []
    for one in value if isinstance(value, list) else []:
        place = one.get(0) if isinstance(one, dict) else None
        place = place[0] if isinstance(place, list) and place else place
        found.append(text_of(place) if place is not None else "?")
    return found


Tags = tuple[tuple[ComidReport, ...], tuple[CoswidReport, ...], tuple[tuple[str, tuple[str, ...]], ...]]


def _tags(value: object, rules: ProfileRules | None, notes: list[str]) -> Tags:
    if not isinstance(value, list):
        raise _malformed("a CoRIM has a list of tags")
    if not value:
        notes.append("it has no tags, and so says nothing")
    comids, coswids, lists = [], [], []
    for one in value:
        kind = _CONCISE.get(one.number) if isinstance(one, Tag) else None
        if kind is None or not isinstance(one.value, bytes):
            raise _malformed("a tag is a CoMID, a CoSWID or a list of tags, in a byte string")
        item = read_cbor(one.value)
        if kind == "comid":
            comids.append(read_comid(item, rules))
        elif kind == "coswid":
            coswids.append(read_coswid(item.value if isinstance(item, Tag) else item))
        elif kind == "cotl":
            lists.append(_list_of_tags(item))
        else:
            notes.append("a store of trust anchors (CoTS) in it is not shown")
    return tuple(comids), tuple(coswids), tuple(lists)


def _list_of_tags(value: object) -> tuple[str, tuple[str, ...]]:
    """Read concise-tl-tag (5.3): identity, the tags that are active together, and until when."""
    identity = value.get(0) if isinstance(value, dict) else None
    tags = value.get(1) if isinstance(value, dict) else None
    if not isinstance(identity, dict) or 0 not in identity or not isinstance(tags, list) or not tags:
        raise InspectionRefused("cotl-malformed", "a list of tags has an identity and tags")
    named = (one.get(0) if isinstance(one, dict) else one for one in tags)
    return text_of(identity[0]), tuple(text_of(one) for one in named)


def _validity(value: object) -> tuple[int | None, int | None]:
    """Return validity-map: not-before (0) and not-after (1), in unix seconds."""
    if not isinstance(value, dict):
        return None, None
    return _instant(value.get(0)), _instant(value.get(1))


def _instant(value: object) -> int | None:
    inner = value.value if isinstance(value, Tag) else value
    return int(inner) if isinstance(inner, int | float) and abs(inner) < 1 << 40 else None


def _judge_validity(validity: tuple[int | None, int | None], at: int, notes: list[str], *, what: str) -> None:
    begins, ends = validity
    if ends is not None and at > ends:
        notes.append(f"{what} expired at {ends}")
    if begins is not None and at < begins:
        notes.append(f"{what} is not valid before {begins}")


def _entities(value: object) -> list[str]:
    found = []
    for one in value if isinstance(value, list) else []:
        if not isinstance(one, dict) or not isinstance(one.get(0), str):
            raise _malformed("an entity has a name")
        roles = one.get(2)
        named = (
            [_ROLES.get(role, str(role)) for role in roles if isinstance(role, int)] if isinstance(roles, list) else []
        )
        found.append(f"{one[0]} ({', '.join(named) or 'no role'})")
    return found
