"""The names of claims that CBOR writes as numbers: IANA's registry of CWT claims, as far as attestation uses it.

Proves nothing. RFC 8392 (3.1), RFC 9711 (7.3), draft-ietf-rats-ear, RFC 9783 (Arm PSA).
"""

from collections.abc import Mapping
from typing import Any, Final

CLAIM_NAMES: Final[Mapping[int, str]] = {
    1: "iss",
    2: "sub",
    3: "aud",
    4: "exp",
    5: "nbf",
    6: "iat",
    7: "cti",
    8: "cnf",
    10: "eat_nonce",
    256: "ueid",
    257: "sueids",
    258: "oemid",
    259: "hwmodel",
    260: "hwversion",
    261: "uptime",
    262: "oemboot",
    263: "dbgstat",
    264: "location",
    265: "eat_profile",
    266: "submods",
    267: "bootcount",
    268: "bootseed",
    269: "dloas",
    270: "swname",
    271: "swversion",
    272: "manifests",
    273: "measurements",
    274: "measres",
    275: "intuse",
    1000: "ear_status",
    1001: "ear_trustworthiness_vector",
    1002: "ear_raw_evidence",
    1003: "ear_appraisal_policy_ids",
    1004: "ear_verifier_id",
    2394: "psa-client-id",
    2395: "psa-security-lifecycle",
    2396: "psa-implementation-id",
    2397: "psa-boot-seed",
    2398: "psa-certification-reference",
    2399: "psa-software-components",
    2400: "psa-verification-service-indicator",
}
_OF_TOKENS: Final = frozenset(
    {name for number, name in CLAIM_NAMES.items() if 256 <= number <= 275 or number > 2000} - {"submods", "eat_profile"}
) | {"eat_nonce"}


def is_token(claims: Mapping[str, Any]) -> bool:
    """Return whether the claims are some that an attester makes of itself: what a verifier's result does not have at its top."""
    results = claims.get("submods")
    judged = isinstance(results, Mapping) and any(
        isinstance(one, Mapping) and any(str(name).startswith(("ear", "1000")) for name in one)
        for one in results.values()
    )
    return not judged and bool(_OF_TOKENS & claims.keys() or (isinstance(results, Mapping) and not _verifies(claims)))


def _verifies(claims: Mapping[str, Any]) -> bool:
    return any(str(name).startswith("ear") for name in claims)
