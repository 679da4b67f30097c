"""A CoRIM for a person: a manifest of reference values and endorsements, signed or not, or one of its tags alone.

Proves the form (draft-ietf-rats-corim, 4 and 5), and with a key that its holder signed. Whether the signer may speak for a maker
is for whoever chose the key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import cbor2
import jwt

from attestd.inspection.cborread import Tag, plain_json, read_cbor
from attestd.inspection.comid import ComidReport, ProfileRules, read_comid, rules_for
from attestd.inspection.refused import InspectionRefused, read_object
from attestd.inspection.swid import CoswidReport, read_coswid
from attestd.protocol.limits import INSPECTED_DOCUMENT

_WRAPPER, _UNSIGNED, _SIGNED, _SIGN1, _CONCISE = 500, 501, 502, 18, {505: "coswid", 506: "comid", 508: "cotl"}
_ALGORITHMS: Final = {-7: "ES256", -35: "ES384", -36: "ES512", -37: "PS256", -38: "PS384", -39: "PS512", -8: "EdDSA"}
_ROLES: Final = {0: "tag creator", 1: "creator", 2: "maintainer", 3: "manifest signer"}
_CONTENT: Final = "application/rim+cbor"


@dataclass(frozen=True, slots=True)
class CorimReport:
    """One manifest. `kind` is corim, signed-corim, comid or coswid; `signature_valid` is None without a signature or a key."""

    kind: str
    identity: str
    profile: str | None
    notes: tuple[str, ...]
    reasons: tuple[tuple[str, str], ...]
    signature_valid: bool | None
    signer: str | None
    entities: tuple[str, ...]
    comids: tuple[ComidReport, ...]
    coswids: tuple[CoswidReport, ...]

    @property
    def accepted(self) -> bool:
        """Return whether nothing speaks against it."""
        return not self.reasons

    def document(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "outcome": "accepted" if self.accepted else "refused",
            "reasons": [code for code, _ in self.reasons],
            "messages": [message for _, message in self.reasons],
            "notes": list(self.notes),
            "format": self.kind,
            "id": self.identity,
            "profile": self.profile,
            "signature_valid": self.signature_valid,
            "signer": self.signer,
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
            + [{"kind": "coswid", **one.document()} for one in self.coswids],
        }


def refused_corim(code: str, message: str) -> dict[str, Any]:
    """Return the document of bytes that are no manifest."""
    return CorimReport("unknown", "", None, (), ((code, message),), None, None, (), (), ()).document()


def inspect_corim(data: bytes, key: bytes | None = None, *, at: int) -> CorimReport:
    """Return the report on a manifest at `at` (unix seconds); `key` is a JWK whose signature is checked.

    *Raises* `InspectionRefused` ("corim-malformed", "comid-malformed", "comid-profile", "coswid-malformed", "cbor-…").
    """
    item = read_cbor(data)
    while isinstance(item, Tag) and item.number in (_WRAPPER, _SIGNED):
        item = item.value
    if isinstance(item, Tag) and item.number == _SIGN1:
        return _signed(item.value, key, at=at)
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
        return CorimReport("comid", found.identity, None, (), (), None, None, (), (found,), ())
    if isinstance(item, dict) and (kind == "coswid" or (kind is None and isinstance(item.get(1), str))):
        software = read_coswid(item)
        return CorimReport("coswid", software.identity, None, (), (), None, None, (), (), (software,))
    raise _malformed("neither a CoRIM (tag 501), a signed one (tag 18), nor one of its tags")


def _signed(value: object, key: bytes | None, *, at: int) -> CorimReport:
    """Read COSE_Sign1 (RFC 9052, 4.2): protected header, header, payload, signature."""
    if not isinstance(value, list) or len(value) != 4 or not all(isinstance(value[part], bytes) for part in (0, 2, 3)):
        raise _malformed("not a COSE_Sign1 with its payload")
    protected, _, payload, signature = value
    header = read_cbor(protected) if protected else {}
    if not isinstance(header, dict):
        raise _malformed("the protected header is not a map")
    inner = read_cbor(payload)
    if not (isinstance(inner, Tag) and inner.number == _UNSIGNED):
        raise _malformed("what is signed is no CoRIM")
    notes, reasons, valid = _judged(header, protected, payload, signature, key)
    report = _corim("signed-corim", inner.value, at=at, notes=notes, reasons=reasons, valid=valid)
    return _with_signer(report, header)


def _judged(
    header: Mapping[Any, Any], protected: bytes, payload: bytes, signature: bytes, key: bytes | None
) -> tuple[list[str], list[tuple[str, str]], bool | None]:
    notes: list[str] = []
    reasons: list[tuple[str, str]] = []
    algorithm = _ALGORITHMS.get(header.get(1, 0)) if isinstance(header.get(1), int) else None
    if header.get(3) != _CONTENT:
        notes.append(f"the content type is {plain_json(header.get(3))!r}, not {_CONTENT}")
    if algorithm is None:
        return notes, [("corim-algorithm", "signed with an algorithm that is not known")], None
    if key is None:
        notes.append("no key was given: who signed it was not judged")
        return notes, reasons, None
    valid = _holds(algorithm, cbor2.dumps(["Signature1", protected, b"", payload]), signature, key)
    if not valid:
        reasons.append(("corim-signature", "the signature is not this key's"))
    return notes, reasons, valid


def _holds(algorithm: str, message: bytes, signature: bytes, key: bytes) -> bool:
    """Return whether the key made the signature; COSE and JOSE write the same bytes (RFC 9053, 2)."""
    members = read_object(key, most=INSPECTED_DOCUMENT, what="the key")
    try:
        jwk = jwt.PyJWK.from_dict(members, algorithm=algorithm)
        return bool(jwk.Algorithm.verify(message, jwk.key, signature))
    except (jwt.PyJWTError, ValueError, TypeError):
        return False


def _with_signer(report: CorimReport, header: Mapping[Any, Any]) -> CorimReport:
    """Add who the signed metadata says signed: header 8, a map in a byte string (4.2.2)."""
    meta = header.get(8)
    try:
        meta = read_cbor(meta) if isinstance(meta, bytes) else meta
    except InspectionRefused:
        meta = None
    signer = meta.get(0) if isinstance(meta, dict) else None
    name = signer.get(0) if isinstance(signer, dict) else None
    return replace(report, signer=name) if isinstance(name, str) else report


def _corim(
    kind: str,
    value: object,
    *,
    at: int,
    notes: list[str] | None = None,
    reasons: list[tuple[str, str]] | None = None,
    valid: bool | None = None,
) -> CorimReport:
    """Read corim-map (4.1)."""
    notes = notes if notes is not None else []
    if not isinstance(value, dict):
        raise _malformed("a CoRIM is a map")
    identity = value.get(0)
    if isinstance(identity, Tag):
        identity = identity.value
    if not isinstance(identity, str | bytes) or not identity:
        raise _malformed("a CoRIM has an id")
    profile = _profile(value.get(3))
    rules = rules_for(profile)
    if profile is not None and rules is None:
        notes.append("its profile is not known here: only the form was judged")
    comids, coswids = _tags(value.get(1), rules, notes)
    _validity(value.get(4), at, notes)
    return CorimReport(
        kind=kind,
        identity=identity if isinstance(identity, str) else identity.hex(),
        profile=profile,
        notes=tuple(notes),
        reasons=tuple(reasons or ()),
        signature_valid=valid,
        signer=None,
        entities=tuple(_entities(value.get(5))),
        comids=comids,
        coswids=coswids,
    )


def _profile(value: object) -> str | None:
    inner = value.value if isinstance(value, Tag) else value
    return None if inner is None else inner if isinstance(inner, str) else str(plain_json(inner))


def _tags(
    value: object, rules: ProfileRules | None, notes: list[str]
) -> tuple[tuple[ComidReport, ...], tuple[CoswidReport, ...]]:
    if not isinstance(value, list):
        raise _malformed("a CoRIM has a list of tags")
    if not value:
        notes.append("it has no tags, and so says nothing")
    comids, coswids = [], []
    for one in value:
        kind = _CONCISE.get(one.number) if isinstance(one, Tag) else None
        if kind is None or not isinstance(one.value, bytes):
            raise _malformed("a tag is a CoMID, a CoSWID or a list of tags, in a byte string")
        item = read_cbor(one.value)
        if kind == "comid":
            comids.append(read_comid(item, rules))
        elif kind == "coswid":
            coswids.append(read_coswid(item))
        else:
            notes.append("lists of tags (CoTL) are not shown")
    return tuple(comids), tuple(coswids)


def _validity(value: object, at: int, notes: list[str]) -> None:
    if not isinstance(value, dict):
        return
    ends, begins = (one.value if isinstance(one := value.get(key), Tag) else None for key in (1, 0))
    if isinstance(ends, int) and at > ends:
        notes.append(f"expired at {ends}")
    if isinstance(begins, int) and at < begins:
        notes.append(f"not valid before {begins}")


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
