"""A TPM's signed statement for a person: a quote, a certification, and every reason against it.

A tuple is a JSON object of hexadecimal texts (docs/inspect.md). Proves what can be proved with what the tuple holds, and says of
the rest that it is not known (null). Accepts only what nothing speaks against: without a key there is no acceptance.
TPM 2.0 part 2, 10.12; part 3, 18.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attestd.errors import Refused
from attestd.evidence.ak import MIN_RSA_BITS, check_attestation_key
from attestd.inspection.refused import hexadecimal, read_object
from attestd.inspection.registers import Values, registers_of
from attestd.inspection.report import opening
from attestd.inspection.signedby import Key, Signed, Signer, holds, signature_of, signer_of
from attestd.inspection.tuples import canonical
from attestd.protocol.limits import INSPECTED_DOCUMENT, MAX_TPM_STRUCTURE
from attestd.tpm.algorithms import CURVES, DIGEST_SIZES, SIGNING_HASHES
from attestd.tpm.attest import TPM_GENERATED_VALUE, Attest, CertifyBody, QuoteBody, parse_attest
from attestd.tpm.cursor import Cursor
from attestd.tpm.errors import Malformed
from attestd.tpm.pcr import pcr_digest, selected_values
from attestd.tpm.public import parse_public_area
from attestd.tpm.signature import Signature

Reasons = list[tuple[str, str]]
_HASH_OF_SIZE: Final = {20: ("sha1",), 32: ("sha256",), 48: ("sha384",), 64: ("sha512",)}
_DIGESTS: Final = {"sha1": hashes.SHA1(), **SIGNING_HASHES}  # noqa: S303 - told as a reason against the statement
_ACCEPTED_CURVES: Final = frozenset(curve.name for curve in CURVES.values())


@dataclass(frozen=True, slots=True)
class StatementReport:
    """One statement. `reasons` are (code, sentence); what is None could not be known from what the tuple holds."""

    reasons: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    signature_valid: bool | None
    nonce_match: bool | None
    pcr_digest_match: bool | None
    name_match: bool | None
    attest: Mapping[str, Any] | None
    signer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Return whether nothing speaks against the statement."""
        return not self.reasons

    def document(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            **opening(self.reasons, notes=self.notes),
            "signature_valid": self.signature_valid,
            "nonce_match": self.nonce_match,
            "pcr_digest_match": self.pcr_digest_match,
            "name_match": self.name_match,
            "attest": dict(self.attest) if self.attest is not None else None,
            "signer": dict(self.signer),
        }


def refused_statement(code: str, message: str) -> dict[str, Any]:
    """Return the document of a file that is no tuple: the same keys, with nothing in them."""
    return StatementReport(((code, message),), (), None, None, None, None, None).document()


def inspect_quote(data: bytes) -> StatementReport:
    """Return the report on a quote's tuple. *Raises* `InspectionRefused` where it is not one."""
    return _inspect(data, kinds=("quote",), body=_quote_reasons)


def inspect_certify(data: bytes) -> StatementReport:
    """Return the report on the tuple of a TPM2_Certify or TPM2_CertifyCreation. *Raises* as `inspect_quote`."""
    return _inspect(data, kinds=("certify", "creation"), body=_certify_reasons)


@dataclass(frozen=True, slots=True)
class _Tuple:
    """What a tuple holds, read."""

    document: Mapping[str, Any]
    message: bytes
    statement: Attest | None
    fault: Malformed | None
    signer: Signer
    signed: Signed


def _read(data: bytes) -> _Tuple:
    document = canonical(_alone(data) or read_object(data, most=INSPECTED_DOCUMENT, what="the tuple"))
    message = hexadecimal(document.get("attest"), what="attest")
    statement, fault = read_statement(message)
    return _Tuple(document, message, statement, fault, _signer(document), signature_of(document))


def _alone(data: bytes) -> dict[str, Any] | None:
    """Return the tuple of a bare TPMS_ATTEST, sized or not: a statement that nothing proves can still be looked at."""
    magic = TPM_GENERATED_VALUE.to_bytes(4, "big")
    alone = len(data) <= MAX_TPM_STRUCTURE and (data.startswith(magic) or data[2:].startswith(magic))
    return {"attest": data.hex()} if alone else None


def _signer(document: Mapping[str, Any]) -> Signer:
    """Return the key; where its public area cannot be accepted, the bare key beside it, for the mathematics, and the fault."""
    found = signer_of(document)
    if found.key is None and found.fault is not None and document.get("ak_tpmt_public"):
        bare = signer_of({name: value for name, value in document.items() if name != "ak_tpmt_public"})
        return replace(bare, fault=found.fault) if bare.key is not None else found
    return replace(found, fault="the tuple has two keys, which differ") if _two_keys(found, document) else found


def _two_keys(found: Signer, document: Mapping[str, Any]) -> bool:
    """Return whether a key lies beside the one that is used, bare or in the first certificate, and is another one."""
    if found.public is None or found.key is None:
        return False
    beside = ({name: document[name]} for name in ("ak_spki_der", "x5c") if document.get(name))
    others = (signer_of(one).key for one in beside)
    return any(other is not None and other.public_numbers() != found.key.public_numbers() for other in others)


def read_statement(message: bytes) -> tuple[Attest | None, Malformed | None]:
    """Return a statement and what is wrong with its bytes; one with bytes behind it is read and has a fault."""
    try:
        return parse_attest(message), None
    except Malformed as error:
        fault = error
    if fault.code == "structure-trailing" and fault.where is not None:
        try:
            return parse_attest(message[: fault.where]), fault
        except Malformed:
            pass
    return None, fault


def _inspect(
    data: bytes,
    *,
    kinds: tuple[str, ...],
    body: Callable[[_Tuple, Reasons, list[str]], tuple[bool | None, bool | None]],
) -> StatementReport:
    found = _read(data)
    reasons: Reasons = []
    notes: list[str] = []
    if found.fault is not None:
        reasons.append(("quote-malformed", f"{found.fault.code}: {found.fault}"))
    statement = found.statement
    digest_match = name_match = None
    if statement is not None:
        reasons += _form_reasons(statement, kinds)
        if statement.kind in kinds:
            digest_match, name_match = body(found, reasons, notes)
    valid = _signature(found, reasons)
    nonce = _nonce(found, reasons, notes)
    return StatementReport(
        reasons=tuple(dict.fromkeys(reasons)),
        notes=tuple(notes),
        signature_valid=valid,
        nonce_match=nonce,
        pcr_digest_match=digest_match,
        name_match=name_match,
        attest=statement_document(statement) if statement is not None else None,
        signer=_signer_document(found.signer),
    )


def _form_reasons(statement: Attest, kinds: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if statement.magic != TPM_GENERATED_VALUE:
        yield "quote-magic", f"the magic is 0x{statement.magic:08x}: a TPM did not make these bytes"
    if statement.kind not in kinds:
        yield "quote-type", f"a statement of type {statement.kind}, where {' or '.join(kinds)} was expected"


def _signature(found: _Tuple, reasons: Reasons) -> bool | None:
    """Judge key, scheme and mathematics; every reason is collected, and the verdict is on the mathematics alone."""
    signer, signed = found.signer, found.signed
    if signed.code is not None:
        unknown = signed.code in ("signature-scheme-null", "scheme-unknown", "algorithm-unknown")
        reasons.append(
            ("quote-scheme" if unknown else "quote-malformed", f"the signature: {signed.code}: {signed.fault}")
        )
    if signer.key is None:
        message = signer.fault or "the key that signed is not in the tuple, so nothing proves the signature"
        reasons.append(("ak-malformed" if signer.fault else "ak-missing", message))
        return None
    if signer.fault is not None:
        reasons.append(("ak-malformed", signer.fault))
    _key_reasons(signer, signed, reasons)
    if signed.signature is None:
        return None
    valid = _mathematics(signer.key, signed.signature, found.message, reasons)
    if valid is False:
        reasons.append(("quote-signature", "the signature is not this key's over these bytes"))
    return valid


def _mathematics(key: Key, one: Signature, message: bytes, reasons: Reasons) -> bool | None:
    """Return whether the signature holds, also where policy refuses its hash, curve or size; None where it cannot be computed."""
    digest = _DIGESTS.get(one.hash)
    if digest is None:
        reasons.append(("quote-scheme", f"a signature over {one.hash}, which cannot be verified here"))
        return None
    if one.hash == "sha1":
        reasons.append(("quote-scheme", "a signature over SHA-1: collisions are practical"))
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        reasons.append(("ak-scheme", f"an RSA key of {key.key_size} bits"))
    if isinstance(key, rsa.RSAPublicKey) or key.curve.name in _ACCEPTED_CURVES or one.scheme != "ecdsa":
        return holds(key, one, message)
    reasons.append(("ak-scheme", f"a key on the curve {key.curve.name}"))
    try:
        key.verify(encode_dss_signature(one.r, one.s), message, ec.ECDSA(digest))
    except InvalidSignature:
        return False
    return True


def _key_reasons(signer: Signer, signed: Signed, reasons: Reasons) -> None:
    public = signer.public
    if public is None:
        return
    try:
        check_attestation_key(len(public.area).to_bytes(2, "big") + public.area)
    except Refused as refused:
        reasons.append((refused.reason.value, f"the key is not an attestation key: {refused.detail}"))
    one = signed.signature
    if one is not None and public.scheme is not None and (one.scheme, one.hash) != (public.scheme, public.scheme_hash):
        pinned = f"{public.scheme} with {public.scheme_hash}"
        reasons.append(("quote-scheme", f"{one.scheme} with {one.hash}, where the key allows {pinned}"))


def _nonce(found: _Tuple, reasons: Reasons, notes: list[str]) -> bool | None:
    if found.document.get("nonce") is None:
        notes.append("no nonce was given: nothing says that the statement is fresh")
        return None
    nonce = hexadecimal(found.document["nonce"], what="nonce")
    if found.statement is None:
        return None
    if not nonce:
        notes.append("the nonce is empty: nothing says that the statement is fresh")
    if found.statement.extra_data != nonce:
        reasons.append(("quote-binding", "the statement is over another nonce"))
        return False
    return True


def _quote_reasons(found: _Tuple, reasons: Reasons, notes: list[str]) -> tuple[bool | None, bool | None]:
    statement = found.statement
    if statement is None or not isinstance(statement.body, QuoteBody):
        return None, None
    if found.signer.public is None and found.signer.key is not None:
        notes.append("the key came without its public area: nothing says that it signs a TPM's own statements alone")
    if not any(selection.pcrs for selection in statement.body.selections):
        reasons.append(("quote-selection", "the quote covers no register"))
    if not found.document.get("pcrs"):
        notes.append("no register values were given")
        return None, None
    return _digest_match(statement.body, registers_of(found.document["pcrs"]), found.signed, reasons), None


def _digest_match(body: QuoteBody, values: Values, signed: Signed, reasons: Reasons) -> bool:
    """Hold the values against the digest, in the hash of the signing scheme, or in that of the digest's size."""
    try:
        picked = selected_values(body.selections, values)
    except Malformed as error:
        reasons.append(("pcr-values-malformed", str(error)))
        return False
    hashes = (signed.signature.hash,) if signed.signature is not None else _HASH_OF_SIZE.get(len(body.pcr_digest), ())
    sizes = [name for name in hashes if DIGEST_SIZES[name] == len(body.pcr_digest)]
    if not any(_digest(picked, name) == body.pcr_digest for name in sizes):
        reasons.append(("quote-pcr-digest", "the register values do not hash to what was signed"))
        return False
    return True


def _digest(values: tuple[bytes, ...], name: str) -> bytes | None:
    try:
        return pcr_digest(values, name)
    except Malformed:
        return None  # a hash that cannot be computed here


def _certify_reasons(found: _Tuple, reasons: Reasons, notes: list[str]) -> tuple[bool | None, bool | None]:
    statement = found.statement
    name = certified_name(statement) if statement is not None else None
    if name is None:
        return None, None
    if not found.document.get("pubArea"):
        notes.append("the certified key's public area was not given")
        return None, None
    try:
        public = parse_public_area(hexadecimal(found.document["pubArea"], what="pubArea"))
    except Malformed as error:
        reasons.append(("device-key-malformed", f"the certified key: {error.code}: {error}"))
        return None, False
    if public.name != name:
        reasons.append(("device-key-not-certified", "the statement certifies another object's name"))
    return None, public.name == name


def certified_name(statement: Attest) -> bytes | None:
    """Return the name of the object that a certification is about, or None for any other statement."""
    if isinstance(statement.body, CertifyBody):
        return statement.body.name
    created = _creation(statement)
    return created[0] if created is not None else None


def _creation(statement: Attest) -> tuple[bytes, bytes] | None:
    """Return (name, hash of the creation data) of TPMS_CREATION_INFO (part 2, 10.12.7)."""
    if statement.kind != "creation" or isinstance(statement.body, QuoteBody | CertifyBody):
        return None
    cursor = Cursor(statement.body.raw)
    try:
        found = cursor.sized2b(), cursor.sized2b()
        cursor.expect_end()
    except Malformed:
        return None
    return found


def statement_document(statement: Attest) -> dict[str, Any]:
    """Return the fields of a statement under the names of the TPM's specification; bytes in hexadecimal."""
    clock = statement.clock
    document: dict[str, Any] = {
        "magic": f"0x{statement.magic:08x}",
        "type": statement.kind,
        "qualifiedSigner": statement.qualified_signer.hex(),
        "extraData": statement.extra_data.hex(),
        "clock": clock.clock,
        "resetCount": clock.reset_count,
        "restartCount": clock.restart_count,
        "safe": int(clock.safe),
        "firmwareVersion": f"0x{statement.firmware_version:x}",
    }
    if isinstance(statement.body, QuoteBody):
        document["selection"] = [[one.algorithm, list(one.pcrs)] for one in statement.body.selections]
        document["pcrDigest"] = statement.body.pcr_digest.hex()
    elif isinstance(statement.body, CertifyBody):
        document["name"] = statement.body.name.hex()
        document["qualifiedName"] = statement.body.qualified_name.hex()
    elif (created := _creation(statement)) is not None:
        document["objectName"], document["creationHash"] = created[0].hex(), created[1].hex()
    return document


def _signer_document(signer: Signer) -> dict[str, Any]:
    public, certificate = signer.public, signer.certificate
    document: dict[str, Any] = {}
    if public is not None:
        document |= {
            "kind": public.kind,
            "name": public.name.hex(),
            "attributes": f"0x{public.attributes:08x}",
            "scheme": public.scheme,
            "hash": public.scheme_hash,
        }
    if certificate is not None:
        document |= {"certificate_sha256": certificate.sha256.hex(), "issuer": certificate.issuer.text}
    return document
