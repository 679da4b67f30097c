"""The generated parts of docs/protocol.md: one function for each, from the code and from the worked exchange."""

import ast
import base64
import json
from inspect import getclosurevars
from itertools import pairwise
from pathlib import Path
from typing import Any

import cbor2
from cryptography import x509

from architecture.markdown import fenced, table, wrapped
from architecture.notation import cbor_diagnostic, json_abridged
from architecture.worked_exchange import worked_exchange
from architecture.worked_vectors import binding_cases, encoded_binding
from attestd.protocol import codec
from attestd.protocol import limits as limits_module
from attestd.protocol.codec import SHAPES, Kind, Shape
from attestd.protocol.reasons import PROBLEM_TYPE_PREFIX, PROBLEMS
from attestd.tpm.public import spki
from attestd_agent.tpm_templates import ATTESTATION_KEY, EK_TEMPLATES, to_2b
from attestd_pki.profiles import GRANT_DIGEST_OID

_OF_THE_WIRE = (
    *(
        "MAX_BODY",
        "MAX_ANONYMOUS",
        "MAX_JSON",
        "MAX_NESTING",
        "MAX_ITEMS",
        "MAX_TEXT",
        "MAX_EK",
        "MAX_CERTIFICATE",
        "MAX_LABELS",
    ),
    *("MAX_CHALLENGERS", "MAX_VPN", "MAX_TPM", "MAX_NONCE", "MIN_NONCE", "MAX_EVENT_LOG", "MAX_EVENTS", "MAX_HEADER"),
    *("MAX_IMA_LIST", "MAX_IMA_ENTRIES", "ENROLMENT_NONCE", "MAX_IDLE", "MIN_INTERVAL", "MAX_INTERVAL"),
)
"""Beginnings of the names of those bounds that a client meets."""


def identity() -> str:
    """Return the worked derivation of a device's id from its endorsement key."""
    exchange = worked_exchange()
    lines = (
        ("TPM2B_PUBLIC of the EK", to_2b(exchange.ek.area).hex()),
        ("SubjectPublicKeyInfo (DER)", spki(exchange.ek).hex()),
        ("device id", exchange.device_id),
        ("TPM name of the AK", exchange.ak.name.hex()),
        ("TPM name of the device key", exchange.device_key.name.hex()),
    )
    return fenced("text", "\n\n".join(f"{label}\n{wrapped(value)}" for label, value in lines))


def ak_template() -> str:
    """Return the template of the attestation key, whole."""
    return fenced("text", f"TPM2B_PUBLIC, {len(ATTESTATION_KEY) + 2} bytes\n{wrapped(to_2b(ATTESTATION_KEY).hex())}")


def ek_templates() -> str:
    """Return the endorsement keys that the agent knows, in its order of preference."""
    rows = [
        (
            f"{row.name}",
            _KEYS[row.public[:4]],
            f"0x{row.certificate_index:08X}",
            f"0x{row.template_index:08X}",
            f"0x{row.nonce_index:08X}" if row.nonce_index else "",
        )
        for row in EK_TEMPLATES
    ]
    return table(("template", "key, name algorithm", "certificate in NV", "template in NV", "nonce in NV"), rows)


_KEYS = {
    bytes.fromhex("0001000b"): "RSA 2048, SHA-256",
    bytes.fromhex("0023000b"): "P-256, SHA-256",
    bytes.fromhex("0023000c"): "P-384, SHA-384",
    bytes.fromhex("0001000c"): "RSA 3072, SHA-384",
}
"""Type and nameAlg at the beginning of TPMT_PUBLIC: among the templates they tell the whole key."""


def binding() -> str:
    """Return the worked binding of the example's enrolment quote: the array, its encoding, its digest."""
    exchange = worked_exchange()
    array, encoded, _ = encoded_binding(binding_cases(exchange)["enrol-quote"])
    text = (
        f"{cbor_diagnostic(array, most=64)}\n\n"
        f"deterministic CBOR ({len(encoded)} bytes)\n{wrapped(encoded.hex())}\n\n"
        f"SHA-256 = extraData of the quote\n{exchange.quote_binding.hex()}\n\n"
        f"the same with 'enrol-certify' = extraData of the certification\n{exchange.certify_binding.hex()}"
    )
    return fenced("text", text)


def messages() -> str:
    """Return an example of every message, in CBOR diagnostic notation and in JSON: two enrolments of one device."""
    parts = []
    for (name, message), (_, in_json) in zip(
        worked_exchange(codec.CBOR).by_name(), worked_exchange(codec.JSON).by_name(), strict=True
    ):
        encoded = codec.encode(message, codec.CBOR)
        shown = cbor_diagnostic(cbor2.loads(encoded))
        text = codec.encode(in_json, codec.JSON)
        parts.append(
            f"#### {name}\n\n{len(encoded)} bytes of CBOR:\n\n{fenced('text', shown)}\n"
            f"<details><summary>In JSON, {len(text)} bytes</summary>\n\n{fenced('json', json_abridged(json.loads(text)))}\n"
            "</details>\n"
        )
    return "\n".join(parts)


def fields() -> str:
    """Return every field of every message, from the shapes that both sides check messages with."""
    rows: list[tuple[str, ...]] = []
    sent = [type(message) for _, message in worked_exchange().by_name()]
    for message in dict.fromkeys((*sent, *SHAPES)):
        shape, title = SHAPES[message], f"**{message.__name__}**"
        for name, kind in (*shape.required.items(), *shape.optional.items()):
            rows.append((title, f"`{name}`", _kind(kind), "" if name in shape.required else "optional"))
            title = ""
    return table(("message", "field", "type and bounds", ""), rows)


def _kind(kind: Kind) -> str:
    """Return a field's kind in words. A kind is a closure over its bounds."""
    if isinstance(kind, Shape):
        return kind.message.__name__
    made_by, bounds = kind.__qualname__.split(".")[0], dict(getclosurevars(kind).nonlocals)
    if made_by == "mapping":
        return f"map of at most {bounds['most']}: {_kind(bounds['key'])} → {_kind(bounds['kind'])}"
    if made_by == "array":
        return f"array of {_range(bounds)}: {_kind(bounds['kind'])}"
    return _WORDS[made_by].format(_range(bounds)) if bounds else _WORDS[made_by]


_WORDS = {
    "octets": "bytes, {}",
    "text": "text, {} characters",
    "document": "text of several lines, {} characters",
    "integer": "integer, {}",
    "boolean": "true or false",
}


def _range(bounds: dict[str, Any]) -> str:
    least, most = bounds.get("least", 0), bounds["most"]
    if most == limits_module.MAX_JSON_INTEGER:
        return f"{least} or more"
    return f"{most}" if least == most else f"{least} to {most}"


def certificate() -> str:
    """Return the device certificate of the worked exchange, field by field."""
    device, authority = map(x509.load_der_x509_certificate, worked_exchange().enrolled.certificate_chain)
    rows = [
        ("issuer", f"`{device.issuer.rfc4514_string()}`, Ed25519"),
        ("serial number", f"`{device.serial_number:x}`: random, 128 bits"),
        (
            "validity",
            f"{device.not_valid_before_utc:%Y-%m-%d %H:%M:%S} to {device.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC",
        ),
        ("subject", f"`{device.subject.rfc4514_string()}`: the device id and nothing else"),
        ("public key", "the device key"),
    ]
    for extension in device.extensions:
        rows.append((_EXTENSIONS[extension.oid][0], _EXTENSIONS[extension.oid][1](extension.value)))
    signed_by = "" if device.issuer == authority.subject else "not "
    return (
        table(("field", "in the worked exchange"), rows)
        + f"\nThe second certificate of the chain is {signed_by}the issuer's.\n"
    )


def _names(value: Any) -> str:
    kinds = {x509.UniformResourceIdentifier: "URI", x509.DNSName: "DNS"}
    return "<br>".join(f"`{kinds[type(one)]}:{one.value}`" for one in value)


_EXTENSIONS: dict[x509.ObjectIdentifier, tuple[str, Any]] = {
    x509.BasicConstraints.oid: ("basicConstraints, critical", lambda value: f"`CA:{str(value.ca).upper()}`"),
    x509.KeyUsage.oid: ("keyUsage, critical", lambda _: "`digitalSignature`"),
    x509.ExtendedKeyUsage.oid: ("extendedKeyUsage", lambda _: "`clientAuth`"),
    x509.SubjectAlternativeName.oid: ("subjectAltName", _names),
    x509.SubjectKeyIdentifier.oid: ("subjectKeyIdentifier", lambda value: f"`{value.digest.hex()}` (RFC 7093, 2)"),
    x509.AuthorityKeyIdentifier.oid: ("authorityKeyIdentifier", lambda value: f"`{value.key_identifier.hex()}`"),
    x509.CRLDistributionPoints.oid: ("cRLDistributionPoints", lambda value: f"`{value[0].full_name[0].value}`"),
    GRANT_DIGEST_OID: (
        f"`{GRANT_DIGEST_OID.dotted_string}`",
        lambda value: f"OCTET STRING of 32 bytes, SHA-256 of the grant: `{value.value[2:8].hex()}…`",
    ),
}


def result() -> str:
    """Return header and claims of the result that the example's reboot gives."""
    header, claims, _ = worked_exchange().attested.result.split(".")
    shown = [json.dumps(_decoded(header)), json.dumps(_decoded(claims), indent=1)]
    return fenced("json", "\n".join(shown))


def _decoded(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def problems() -> str:
    """Return the reason codes with status, title and advice."""
    head = f"`type` is `{PROBLEM_TYPE_PREFIX}` and the code.\n\n"
    rows = [(f"`{reason.value}`", str(known.status), known.title, known.advice) for reason, known in PROBLEMS.items()]
    return head + table(("code", "status", "title", "what the caller does"), rows)


def limits() -> str:
    """Return the bounds that a client meets, with the reason of each, from the text of limits.py."""
    documented = _documented(limits_module.__file__ or "")
    rows = [
        (f"`{name}`", f"{getattr(limits_module, name):,}".replace(",", " "), documented.get(name, ""))
        for name in vars(limits_module)
        if name.startswith(_OF_THE_WIRE)
    ]
    return table(("bound", "value", "why"), rows)


def _documented(file: str) -> dict[str, str]:
    """Return name → the string that stands below its assignment."""
    found: dict[str, str] = {}
    body = ast.parse(Path(file).read_text(encoding="utf-8")).body
    for statement, following in pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            value = following.value if isinstance(following, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[statement.target.id] = " ".join(value.value.split())
    return found
