"""An attestation result (EAR) for a person: as claims in JSON, CBOR or diagnostic notation, in a JWT or a CWT.

Proves the form of the claims (draft-ietf-rats-ear, with the spelling of its third and fourth revisions and of its predecessor) and
that a status says no more than its vector; with a key also who signed. A claims set without an envelope proves nothing at all. A
token (EAT, RFC 9711) that is no result is shown with its claims, and nothing is judged but its signature.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt

from attestd.appraisal.result import CATEGORIES
from attestd.inspection.authority import reporting
from attestd.inspection.cborread import Tag, plain_json, read_cbor
from attestd.inspection.cose import SIGN1, judge_sign1, read_sign1
from attestd.inspection.diagnostic import read_diagnostic
from attestd.inspection.eatclaims import CLAIM_NAMES, is_token
from attestd.inspection.keyfile import NamedKey, read_keys
from attestd.inspection.refused import InspectionRefused, read_object
from attestd.inspection.report import opening
from attestd.protocol.limits import INSPECTED_DOCUMENT
from attestd_pki.base64text import decode_base64
from attestd_pki.times import in_words

TIERS: Final = {"none": 0, "affirming": 2, "warning": 32, "contraindicated": 96}
_VERIFIER: Final = {0: "developer", 1: "build"}
_ALGORITHMS: Final = ["EdDSA", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"]
_SHARED: Final = frozenset({"HS256", "HS384", "HS512"})
_TOKEN_TAGS: Final = (61, 601)
"""CWT (RFC 8392, 6) and UCCS, a claims set without a signature (RFC 9781)."""
_KEY_MEMBERS: Final = {"EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "RSA": ("n", "e")}


@dataclass(frozen=True, slots=True)
class EarReport:
    """One result. `kind` is json, jwt, cbor, cwt, diagnostic or jwk; `outcome` parsed is for a token that nobody has judged.

    `signature_valid` is None where nothing was signed or no key was given.
    """

    kind: str
    reasons: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    signature_valid: bool | None
    claims: Mapping[str, Any]
    submods: tuple[tuple[str, str, tuple[tuple[str, int], ...]], ...]
    token: bool = False

    @property
    def accepted(self) -> bool:
        """Return whether nothing speaks against it."""
        return not self.reasons

    @property
    def outcome(self) -> str:
        """Return accepted, parsed (a token) or refused."""
        return "refused" if self.reasons else "parsed" if self.token else "accepted"

    def document(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            **opening(self.reasons, outcome=self.outcome, notes=self.notes),
            "format": self.kind,
            "signature_valid": self.signature_valid,
            "submods": {name: {"status": status, "vector": dict(vector)} for name, status, vector in self.submods},
            "claims": dict(self.claims),
        }


def refused_ear(code: str, message: str) -> dict[str, Any]:
    """Return the document of bytes that are no result."""
    return EarReport("unknown", ((code, message),), (), None, {}, ()).document()


def inspect_ear(data: bytes, key: bytes | None = None, *, at: int) -> EarReport:
    """Return the report on a result at `at` (unix seconds); `key` is a file with the verifier's keys (JWK, PEM, COSE_Key).

    *Raises* `InspectionRefused` ("ear-size", "ear-malformed", and as the readers of JSON and CBOR).
    """
    if len(data) > INSPECTED_DOCUMENT:
        raise InspectionRefused("ear-size", f"a result of {len(data)} bytes")
    text = data.strip()
    if text.startswith((b"{", b"[")):
        return _object(text, key, at=at)
    if text.count(b".") == 2 and text.replace(b".", b"").replace(b"-", b"").replace(b"_", b"").isalnum():
        return _token(text, key, at=at)
    if text.startswith((b"/", b"#", b"//")) or re.match(rb"\d+\(", text):
        return _item(_diagnostic(text), key, "diagnostic", at=at)
    return _item(read_cbor(_octets(data, text)), key, "cbor", at=at)


def _octets(data: bytes, text: bytes) -> bytes:
    """Return CBOR that was written down in hexadecimal or base64; it never begins as these do."""
    if re.fullmatch(rb"[0-9a-fA-F\s]{16,}", text):
        digits = b"".join(text.split()).decode("ascii")
        return bytes.fromhex(digits) if len(digits) % 2 == 0 else data
    if re.fullmatch(rb"[A-Za-z0-9+/=_\s-]{16,}", text):
        try:
            return decode_base64(text)
        except ValueError:
            return data
    return data


def _diagnostic(text: bytes) -> Any:
    try:
        return read_diagnostic(text.decode("utf-8"))
    except UnicodeDecodeError:
        raise InspectionRefused("cbor-malformed", "neither JSON nor diagnostic notation") from None


def _object(text: bytes, key: bytes | None, *, at: int) -> EarReport:
    """Read a JSON object, a JWS in JSON, a bundle of tokens, or what only looks like JSON: diagnostic notation."""
    try:
        document = json.loads(text)
    except RecursionError:
        raise InspectionRefused("json-malformed", "the result is nested too deep") from None
    except ValueError:
        return _item(_diagnostic(text), key, "diagnostic", at=at)
    if isinstance(document, list):
        return _token(_compact(document), key, at=at)
    document = read_object(text, most=INSPECTED_DOCUMENT, what="the result")
    if "kty" in document:
        return _key_report(document)
    if isinstance(document.get("payload"), str) and ("signature" in document or "signatures" in document):
        return _token(_flattened(document), key, at=at)
    return _unsigned("json", document, key, at=at)


def _compact(document: list[Any]) -> bytes:
    """Return the token that a bundle is about: ["JWT", "…"], or that with its detached parts (RFC 9711, 5)."""
    first = document[0] if document and isinstance(document[0], list) else document
    if len(first) == 2 and first[0] == "JWT" and isinstance(first[1], str) and first[1].isascii():
        return first[1].encode()
    raise InspectionRefused("ear-malformed", "a list, and no token in it")


def _flattened(document: Mapping[str, Any]) -> bytes:
    """Return a JWS of one signature in its compact form (RFC 7515, 7.2)."""
    several = document.get("signatures")
    one = several[0] if isinstance(several, list) and len(several) == 1 else document
    parts = (one.get("protected"), document["payload"], one.get("signature")) if isinstance(one, Mapping) else (None,)
    if not all(isinstance(part, str) and part.isascii() for part in parts):
        raise InspectionRefused("ear-malformed", "a JWS in JSON that has not one signature")
    return ".".join(str(part) for part in parts).encode()


def _key_report(document: Mapping[str, Any]) -> EarReport:
    """Say of a verification key that it is one: these lie beside results."""
    needed = _KEY_MEMBERS.get(str(document["kty"]))
    if needed is None or not all(isinstance(document.get(name), str) for name in needed):
        raise InspectionRefused("ear-malformed", "a JWK whose members do not make a key")
    notes = ["not a result: a key to verify results with (--key)"]
    notes += ["it has its private part"] if "d" in document else []
    shown = {name: document[name] for name in ("kty", *needed)}
    return EarReport("jwk", (), tuple(notes), None, shown, ())


def _token(text: bytes, key: bytes | None, *, at: int) -> EarReport:
    """Read a JWS in compact form; the header's own key, if any, is never looked at."""
    try:
        parts = [base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)) for part in text.split(b".")]
        encoded_header, encoded_claims, _ = parts
        header, claims = json.loads(encoded_header), json.loads(encoded_claims)
    except (ValueError, binascii.Error, RecursionError):
        raise InspectionRefused("ear-malformed", "not a JWT: not three parts in base64url, of JSON") from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise InspectionRefused("ear-malformed", "not a JWT: its parts are not JSON objects")
    reasons: list[tuple[str, str]] = []
    notes: list[str] = []
    algorithm = header.get("alg")
    if algorithm in _SHARED and _is_token(claims):
        notes.append("authenticated with a shared secret: who wrote it cannot be judged")
    elif algorithm not in _ALGORITHMS:
        reasons.append(("ear-algorithm", f"signed with {str(algorithm)[:32]!r}, which nobody should accept"))
    valid = None
    if key is None:
        notes.append("no key was given: who signed it was not judged")
    elif algorithm in _ALGORITHMS:
        valid = any(_signed_by(text, one, algorithm) for one in _keys(key, notes))
        if not valid:
            reasons.append(("ear-signature", "the signature is not this key's"))
    else:
        reasons.append(("ear-signature", "it is not signed by a key of its own, and one was given"))
    return _report("jwt", claims, valid, reasons, notes, at=at)


def _keys(key: bytes, notes: list[str]) -> tuple[NamedKey, ...]:
    """Return the keys that may have signed; a file that holds none holds nobody's."""
    try:
        return read_keys(key)
    except InspectionRefused as refusal:
        notes.append(f"the key cannot be used: {refusal.message}")
        return ()


def _signed_by(text: bytes, key: NamedKey, algorithm: str) -> bool:
    try:
        jwt.PyJWS(algorithms=[algorithm]).decode(text, key.key, algorithms=[algorithm])  # type: ignore[arg-type]
    except (jwt.PyJWTError, ValueError, TypeError):
        return False
    return True


def _item(item: Any, key: bytes | None, kind: str, *, at: int) -> EarReport:
    """Read claims in CBOR, bare or as the payload of a COSE_Sign1 (RFC 8392)."""
    notes: list[str] = []
    while isinstance(item, Tag) and item.number in _TOKEN_TAGS:
        kind, item = "cwt" if item.number == _TOKEN_TAGS[0] else kind, item.value
    if isinstance(item, list) or (isinstance(item, Tag) and item.number == SIGN1):
        signed = read_sign1(item, code="ear-malformed")
        keys = _keys(key, notes) if key is not None else ()
        verdict = judge_sign1(signed, reporting(keys, None), at=at, code="ear")
        claims = read_cbor(signed.payload)
        reasons = list(verdict.reasons)
        if key is not None and not keys:
            reasons.append(("ear-signature", "the signature is not this key's"))
        if not isinstance(claims, dict):
            raise InspectionRefused("ear-malformed", "what is signed is no map of claims")
        valid = False if key is not None and not keys else verdict.valid
        return _report("cwt", _named(claims), valid, reasons, [*notes, *verdict.notes], at=at)
    if not isinstance(item, dict):
        raise InspectionRefused("ear-malformed", "CBOR, and not a map of claims")
    return _unsigned(kind, _named(item), key, at=at)


def _unsigned(kind: str, claims: dict[str, Any], key: bytes | None, *, at: int) -> EarReport:
    """Report on claims that nobody signed: whoever gives a key asks for its signature, and there is none."""
    reasons = [("ear-signature", "it is not signed, and a key was given")] if key is not None else []
    return _report(kind, claims, None, reasons, ["it is not signed: anybody may have written it"], at=at)


def _is_token(claims: Mapping[str, Any]) -> bool:
    spelt = {_spelt(name) for name in claims}
    return is_token(claims) and not any(name.startswith("ear_") for name in spelt)


def _named(claims: Mapping[Any, Any]) -> dict[str, Any]:
    """Return claims under the names they have in JSON."""
    found: dict[str, Any] = {}
    for key, value in claims.items():
        name = CLAIM_NAMES.get(key, str(key)) if isinstance(key, int) else str(plain_json(key))
        if name == "submods" and isinstance(value, dict):
            value = {
                str(plain_json(label)): _named(one) if isinstance(one, dict) else one for label, one in value.items()
            }
        elif name == "ear_trustworthiness_vector" and isinstance(value, dict):
            value = {_category(number): tier for number, tier in value.items()}
        elif name == "ear_verifier_id" and isinstance(value, dict):
            value = {_VERIFIER.get(number, str(number)): text for number, text in value.items()}
        found[name] = plain_json(value)
    return found


def _category(number: object) -> str:
    known = isinstance(number, int) and 0 <= number < len(CATEGORIES)
    return CATEGORIES[number] if known and isinstance(number, int) else str(number)


def _report(
    kind: str, claims: dict[str, Any], valid: bool | None, reasons: list[tuple[str, str]], notes: list[str], *, at: int
) -> EarReport:
    if _is_token(claims):
        notes.append("a token (EAT), and no result: nobody has judged what it claims")
        return EarReport(kind, tuple(reasons), tuple(notes), valid, claims, (), token=True)
    canonical = {_spelt(name): value for name, value in claims.items()}
    if "submods" not in canonical and "ear_status" not in canonical:
        reasons.append(("ear-claims", "no submods and no status: a token, perhaps, and not an attestation result"))
        return EarReport(kind, tuple(reasons), tuple(notes), valid, claims, ())
    reasons += _head_reasons(canonical)
    parts = canonical.get("submods", {"": claims})
    if not isinstance(parts, dict) or not parts:
        reasons.append(("ear-claims", "submods is not a map with at least one entry"))
        parts = {}
    found = []
    for name, one in parts.items():
        status, vector = _submodule(str(name), one, reasons)
        found.append((str(name), status, vector))
    expires = canonical.get("exp")
    if isinstance(expires, int) and at >= expires:
        notes.append(f"expired at {in_words(expires)}")
    return EarReport(kind, tuple(dict.fromkeys(reasons)), tuple(notes), valid, claims, tuple(found))


def _spelt(name: str) -> str:
    """Return the fourth revision's name of a claim: the draft's predecessor has a dot, and "id" in the singular."""
    name = name.replace("ear.", "ear_", 1) if name.startswith("ear.") else name
    name = name if "veraison" in name else name.replace("-", "_") if name.startswith("ear_") else name
    return "ear_appraisal_policy_ids" if name == "ear_appraisal_policy_id" else name


def _head_reasons(claims: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    if not isinstance(claims.get("eat_profile"), str):
        found.append(("ear-claims", "eat_profile is not a text"))
    if type(claims.get("iat")) is not int:
        found.append(("ear-claims", "iat is not an integer"))
    verifier = claims.get("ear_verifier_id")
    if not isinstance(verifier, dict) or not all(isinstance(verifier.get(name), str) for name in _VERIFIER.values()):
        found.append(("ear-claims", "ear_verifier_id does not name a developer and a build"))
    return found


def _submodule(name: str, claims: object, reasons: list[tuple[str, str]]) -> tuple[str, tuple[tuple[str, int], ...]]:
    """Return status and vector of one attester; what is wrong with them is added to `reasons`."""
    if not isinstance(claims, dict):
        reasons.append(("ear-claims", f"{name[:64]!r} is not a map of claims"))
        return "none", ()
    spelt = {_spelt(str(key)): value for key, value in claims.items()}
    status = _status(spelt.get("ear_status"))
    if status is None:
        reasons.append(("ear-status", f"{name[:64]!r} has no status that is known"))
    vector = spelt.get("ear_trustworthiness_vector", {})
    if not isinstance(vector, dict) or not all(
        category in CATEGORIES and type(value) is int and -128 <= value <= 127 for category, value in vector.items()
    ):
        reasons.append(("ear-vector", f"the vector of {name[:64]!r} is not a map of the eight categories"))
        vector = {}
    worst = max((tier_of(value) for value in vector.values()), default=0)
    # To assert nothing ("none") says less than an affirming vector; beside a warning it hides it.
    if status is not None and vector and max(TIERS[status], TIERS["affirming"] * (status == "none")) < worst:
        reasons.append(("ear-contradiction", f"{name[:64]!r} is {status}, and its vector says worse"))
    attested = spelt.get("ear_veraison.key-attestation")
    if attested is not None and not (isinstance(attested, dict) and isinstance(attested.get("akpub"), str)):
        reasons.append(("ear-claims", f"the key attestation of {name[:64]!r} has no key (akpub)"))
    return status or "none", tuple(vector.items())


def _status(value: object) -> str | None:
    if isinstance(value, str):
        return value if value in TIERS else None
    return next((name for name, tier in TIERS.items() if type(value) is int and tier == value), None)


def tier_of(value: int) -> int:
    """Return the tier of a claim's value (draft-ietf-rats-ar4si, 2.3.2): -1 to 1 none, to 31 affirming, to 95 warning."""
    size = abs(value)
    if -1 <= value <= 1:
        return 0
    return 2 if size < 32 else 32 if size < 96 else 96
