"""Evidence of a reference machine, as `attestd-agent quote -o DIRECTORY` wrote it, becomes evidence that may be learnt from.

Proves that one TPM key signed exactly these registers and that the logs explain them. Does not prove who that machine is, that
its key lives in a TPM, nor that the evidence is fresh: a person who holds the machine says so.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from attestd.errors import Refused
from attestd.evidence.ak import check_attestation_key
from attestd.evidence.ek import pinned_identity, read_endorsement_key
from attestd.evidence.prove import Proof, prove_evidence
from attestd.evidence.quote import Selection
from attestd.evidence.types import AuthenticatedEvidence
from attestd.protocol import limits
from attestd.protocol.messages import PcrValue, RuntimeList, SignedAttest
from attestd.services.declined import Declined
from attestd.tpm.attest import QuoteBody, parse_attest
from attestd.tpm.errors import Malformed

FILES: Final[Mapping[str, int]] = {
    "quote.attest": limits.MAX_TPM_STRUCTURE,
    "quote.sig": limits.MAX_TPM_STRUCTURE,
    "ak.tpm2b_public": limits.MAX_TPM_STRUCTURE,
    "ek.tpm2b_public": limits.MAX_TPM_STRUCTURE,
    "nonce.bin": limits.MAX_NONCE,
    "pcrs.json": limits.MAX_JSON_BODY,
    "eventlog.bin": limits.MAX_EVENT_LOG,
    "ima.bin": limits.MAX_IMA_LIST,
}
"""The files of an evidence directory and how many bytes each may have; `ima.bin` may be empty."""


def reference_evidence(files: Mapping[str, bytes]) -> AuthenticatedEvidence:
    """Return the evidence in these files (see FILES).

    *Raises* Declined (evidence-incomplete, evidence-malformed), Refused for a quote or a log that does not hold.
    """
    missing = sorted(set(FILES) - set(files))
    if missing:
        raise Declined(
            "evidence-incomplete", f"{', '.join(missing)} missing: attestd-agent quote -o DIRECTORY writes all"
        )
    bank, values = _registers(files["pcrs.json"])
    quoted = _quoted(files["quote.attest"])
    values = tuple(value for value in values if value.index in quoted)
    selection = Selection(bank, tuple(value.index for value in values))
    identity = pinned_identity(read_endorsement_key(files["ek.tpm2b_public"]))
    proof = Proof(
        SignedAttest(files["quote.attest"], files["quote.sig"]),
        values,
        files["eventlog.bin"],
        RuntimeList(0, files["ima.bin"]) if files["ima.bin"] else None,
    )
    key = check_attestation_key(files["ak.tpm2b_public"])
    try:
        proved = prove_evidence(identity, key, proof, qualifying_data=files["nonce.bin"], selection=selection)
    except ValueError as error:
        raise Declined("evidence-malformed", str(error)) from None
    except Refused as refused:
        raise Declined("evidence-refused", f"{refused.reason.value}: {refused.detail}") from None
    return proved.evidence


def _quoted(attest: bytes) -> frozenset[int]:
    """Return the registers that the quote is over: pcrs.json may hold all of the bank. The proof holds them against the digest."""
    try:
        body = parse_attest(attest).body
    except Malformed as error:
        raise Declined("evidence-malformed", f"quote.attest: {error}") from None
    return (
        frozenset(index for one in body.selections for index in one.pcrs)
        if isinstance(body, QuoteBody)
        else frozenset()
    )


def _registers(text: bytes) -> tuple[str, tuple[PcrValue, ...]]:
    """Return the bank and the registers of pcrs.json: {"sha256": {"0": "hex", …}}."""
    try:
        document: Any = json.loads(text)
        ((bank, registers),) = document.items()
        values = tuple(PcrValue(int(index), bytes.fromhex(value)) for index, value in registers.items())
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise Declined("evidence-malformed", "pcrs.json is not one bank with its registers in hex") from None
    return bank, tuple(sorted(values, key=lambda value: value.index))
