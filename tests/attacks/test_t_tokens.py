"""Every route with every wrong token, and attestation results that are not what they are shown as."""

import base64
import hmac
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attacks.fixtures_pct import EVIL, a_token, announced, problem_code, turned_away, unchanged
from attestd.api.application import Application
from attestd.appraisal.ear import EarKey, EarRefused, sign_ear, verify_ear
from attestd.appraisal.policy import Tier
from attestd.store import tokens
from softchip import SoftChip
from world import World, sqlite_world

pytest_plugins = ("attacks.fixtures_pct",)

OPEN = {
    ("POST", "/v1/enrol"),
    ("POST", "/v1/enrol/proof"),
    ("POST", "/v1/attest"),
    ("GET", "/v1/trust-anchor"),
    ("GET", "/v1/crl"),
    ("GET", "/v1/keys"),
    ("GET", "/v1/health"),
    ("GET", "/v1/openapi.json"),
}
"""What anybody may call: devices show their proof there, and what is published is public."""
GUARDED = {("GET", "/v1/devices/{device_id}/trust"): "trust:read", ("GET", "/v1/devices"): "devices:read"}
"""What needs a token, and of which scope."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, SoftChip]]:
    """A verifier with one trusted device."""
    with sqlite_world(tmp_path_factory.mktemp("tokens")) as fleet:
        gate = announced(fleet)
        fleet.enrol(gate)
        yield fleet, gate
    fleet.verifier.store.close()


def routes(fleet: World) -> set[tuple[str, str]]:
    """Return (method, path) of every route that the application has, and what is no route under its own name."""
    application = Application(fleet.verifier)
    found = {(method, path) for path, (method, _) in application._devices._routes.items()}
    waiting: list[Any] = list(application._others.routes)
    while waiting:
        route = waiting.pop()
        inner = getattr(getattr(route, "original_router", route), "routes", None)
        if inner is not None:
            waiting += inner
        else:
            path, methods = getattr(route, "path", repr(route)), getattr(route, "methods", {"?"})
            found |= {(method, path) for method in methods if method != "HEAD"}
    return found


def ask(fleet: World, gate: SoftChip, route: tuple[str, str], **headers: str) -> tuple[int, str]:
    """Call a route and return (status, reason code)."""
    method, path = route
    return problem_code(fleet.call(method, path.format(device_id=gate.device_id), headers=headers))


# --- T01 ----------------------------------------------------------------------------------------------------------------


def test_t01_every_route_is_open_by_decision_or_needs_a_token(site: tuple[World, SoftChip]) -> None:
    assert routes(site[0]) == OPEN | set(GUARDED)


def encoded(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def a_jwt(header: dict[str, Any], claims: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """Return a JWT with this header, whatever it claims."""
    signed = f"{encoded(header)}.{encoded(claims)}"
    return f"{signed}.{base64.urlsafe_b64encode(sign(signed.encode())).rstrip(b'=').decode()}"


def forgeries(fleet: World, gate: SoftChip) -> dict[str, str]:
    """Return name → a JWT that some verifier of tokens has once believed."""
    public = fleet.verifier.result_key.private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    raw = public.public_bytes_raw()
    mine = Ed25519PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": encoded_bytes(mine.public_key().public_bytes_raw())}
    claims = {
        "iss": "spiffe://fleet.example",
        "sub": "admin",
        "aud": "attestd",
        "scope": "trust:read devices:read",
        "exp": 4_000_000_000,
        "iat": 1,
    }
    key_id = fleet.verifier.result_key.key_id
    return {
        "none": a_jwt({"alg": "none"}, claims, lambda _: b""),
        "NoNe": a_jwt({"alg": "NoNe"}, claims, lambda _: b""),
        "HS256 with the public key as PEM": a_jwt({"alg": "HS256"}, claims, lambda m: hmac.digest(pem, m, "sha256")),
        "HS256 with the public key": a_jwt({"alg": "HS256"}, claims, lambda m: hmac.digest(raw, m, "sha256")),
        "HS256 with an empty key": a_jwt({"alg": "HS256"}, claims, lambda m: hmac.digest(b"", m, "sha256")),
        "key from its own header": a_jwt({"alg": "EdDSA", "jwk": jwk}, claims, mine.sign),
        "key from an address": a_jwt({"alg": "EdDSA", "jku": "https://evil.example/keys"}, claims, mine.sign),
        "key from a file": a_jwt({"alg": "HS256", "kid": "/dev/null"}, claims, lambda m: hmac.digest(b"", m, "sha256")),
        "the verifier's own key id": a_jwt({"alg": "EdDSA", "kid": key_id}, claims, mine.sign),
        "really signed by the verifier": sign_ear(claims, fleet.verifier.result_key),
        "a device's own result": sign_ear(
            {"sub": gate.device_id, "scope": "trust:read", "exp": 4_000_000_000}, fleet.verifier.result_key
        ),
    }


def encoded_bytes(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def malformed(fleet: World) -> dict[str, str]:
    """Return name → an Authorization header that has not the form of one."""
    good = a_token(fleet, "trust:read", "devices:read")
    with fleet.verifier.store.read() as connection:
        digest = tokens.list_tokens(connection)[0].hash
    return {
        "no scheme": good,
        "scheme alone": "Bearer",
        "scheme and space": "Bearer ",
        "another scheme": f"Basic {base64.b64encode(b'attestd:attestd').decode()}",
        "another spelling": f"bearer {good}",
        "two spaces": f"Bearer  {good}",
        "a prefix": f"Bearer {good[:-1]}",
        "longer": f"Bearer {good}A",
        "without its prefix": f"Bearer {good.removeprefix('attestd_')}",
        "other letters": f"Bearer {good.swapcase()}",
        "another character": f"Bearer {good[:-1]}+",
        "two tokens": f"Bearer {good}, Bearer {good}",
        "a parameter behind": f"Bearer {good}; scope=devices:read",
        "the stored hash": f"Bearer attestd_{encoded_bytes(digest)}",
        "the stored hash in hexadecimal": f"Bearer {digest.hex()}",
        "SQL": "Bearer attestd_' OR 1=1 --",
        "very long": "Bearer attestd_" + "A" * 8000,
        "null": "Bearer null",
    }


NO_TOKEN: dict[str, dict[str, str]] = {
    "nothing": {},
    "an empty header": {"authorization": ""},
    "a cookie": {"cookie": "token=attestd_" + "A" * 43},
    "another header": {"x-api-key": "attestd_" + "A" * 43, "x-forwarded-user": "admin", "x-remote-user": "admin"},
}


@pytest.mark.attack("T01", reason="token-missing")
@pytest.mark.parametrize("route", GUARDED, ids=" ".join)
@pytest.mark.parametrize("headers", NO_TOKEN.values(), ids=NO_TOKEN)
def test_t01_without_a_token_nothing_is_told(
    site: tuple[World, SoftChip], route: tuple[str, str], headers: dict[str, str]
) -> None:
    fleet, gate = site
    with unchanged(fleet):
        assert ask(fleet, gate, route, **headers) == (401, "token-missing")


@pytest.mark.attack("T01", reason="token-invalid")
@pytest.mark.parametrize("route", GUARDED, ids=" ".join)
def test_t01_what_has_not_the_form_of_a_token_is_refused(site: tuple[World, SoftChip], route: tuple[str, str]) -> None:
    fleet, gate = site
    for name, header in malformed(fleet).items():
        expected = {"token-missing", "token-invalid"} if name.startswith("scheme") else {"token-invalid"}
        status, code = ask(fleet, gate, route, authorization=header)
        assert (status, code in expected) == (401, True), name


@pytest.mark.attack("T01", reason="token-invalid")
@pytest.mark.parametrize("route", GUARDED, ids=" ".join)
def test_t01_no_jwt_is_a_token_whoever_signed_it(site: tuple[World, SoftChip], route: tuple[str, str]) -> None:
    fleet, gate = site
    for name, token in forgeries(fleet, gate).items():
        assert ask(fleet, gate, route, authorization=f"Bearer {token}") == (401, "token-invalid"), name


@pytest.mark.attack("T01", reason="token-invalid")
@pytest.mark.parametrize("route", GUARDED, ids=" ".join)
def test_t01_a_token_that_is_not_valid_any_longer_or_never_was_is_refused(
    site: tuple[World, SoftChip], route: tuple[str, str], tmp_path: Path
) -> None:
    fleet, gate = site
    scopes = ("trust:read", "devices:read")
    with sqlite_world(tmp_path) as elsewhere:
        foreign = a_token(elsewhere, *scopes)
    elsewhere.verifier.store.close()
    bad = {
        "unknown": "attestd_" + "A" * 43,
        "of another verifier": foreign,
        "expired": a_token(fleet, *scopes, expires_at=fleet.now() - 1),
        "expires now": a_token(fleet, *scopes, expires_at=fleet.now()),
        "revoked": a_token(fleet, *scopes, revoked_at=fleet.now() - 1),
        "revoked in the future": a_token(fleet, *scopes, revoked_at=fleet.now() + 60_000),
    }
    for name, token in bad.items():
        assert ask(fleet, gate, route, authorization=f"Bearer {token}") == (401, "token-invalid"), name


@pytest.mark.attack("T01", reason="token-scope")
@pytest.mark.parametrize("route", GUARDED, ids=" ".join)
def test_t01_a_token_of_another_scope_is_refused(site: tuple[World, SoftChip], route: tuple[str, str]) -> None:
    fleet, gate = site
    scope = GUARDED[route]
    others = sorted({"trust:read", "devices:read", "*", "admin", scope.upper(), f"{scope} ", "trust", ""} - {scope})
    for other in others:
        token = a_token(fleet, other)
        assert ask(fleet, gate, route, authorization=f"Bearer {token}") == (403, "token-scope"), other


@pytest.mark.attack("T01", reason="token-missing")
def test_t01_a_token_in_the_address_is_no_token(site: tuple[World, SoftChip]) -> None:
    fleet, gate = site
    token = a_token(fleet, "trust:read", "devices:read")
    for path in (f"/v1/devices/{gate.device_id}/trust", "/v1/devices"):
        for name in ("token", "access_token", "authorization"):
            assert problem_code(fleet.call("GET", f"{path}?{name}={token}")) == (401, "token-missing")


@pytest.mark.attack("T01", reason="device-unknown")
def test_t01_a_token_of_another_site_sees_nothing_of_a_device(site: tuple[World, SoftChip]) -> None:
    fleet, gate = site
    for foreign in ("quay", "harbou", "harbour2", "HARBOUR", ""):
        header = {"authorization": f"Bearer {a_token(fleet, 'trust:read', 'devices:read', site=foreign)}"}
        trust = ("GET", "/v1/devices/{device_id}/trust")
        assert ask(fleet, gate, trust, **header) == (404, "device-unknown")
        assert json.loads(fleet.call("GET", "/v1/devices", headers=header)[2]) == {"devices": [], "after": None}
    own = {"authorization": f"Bearer {a_token(fleet, 'trust:read', 'devices:read', site='harbour')}"}
    assert ask(fleet, gate, trust, **own) == (200, "")
    assert len(json.loads(fleet.call("GET", "/v1/devices", headers=own)[2])["devices"]) == 1


@pytest.mark.attack("T01", reason="device-unknown")
def test_t01_a_foreign_site_cannot_tell_a_device_that_exists_from_one_that_does_not(
    site: tuple[World, SoftChip],
) -> None:
    fleet, gate = site
    header = {"authorization": f"Bearer {a_token(fleet, 'trust:read', site='quay')}"}
    stranger = SoftChip(fleet.now_s)
    answers = [
        fleet.call("GET", f"/v1/devices/{device_id}/trust", headers=header)
        for device_id in (gate.device_id, stranger.device_id, "nonsense", "a" * 52, "..%2f..", "%00")
    ]
    assert {answer[0] for answer in answers} == {404}
    assert len({answer[2] for answer in answers[:4]}) == 1


@pytest.mark.attack("T01", reason="method-not-allowed")
def test_t01_no_other_method_goes_around_the_token(site: tuple[World, SoftChip]) -> None:
    fleet, gate = site
    for _, path in GUARDED:
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "get", "PROPFIND"):
            status = fleet.call(method, path.format(device_id=gate.device_id))[0]
            assert status in (400, 401, 405), (method, path)
    for path in ("/v1/devices/", "//v1/devices", "/v1/./devices", "/V1/devices", "/v1/devices;x", "/v1/devices%2f"):
        assert fleet.call("GET", path)[0] in (400, 404), path


def test_t01_a_valid_token_is_accepted_by_every_guarded_route(site: tuple[World, SoftChip]) -> None:
    fleet, gate = site
    for route, scope in GUARDED.items():
        token = a_token(fleet, scope, expires_at=fleet.now() + 60_000)
        assert ask(fleet, gate, route, authorization=f"Bearer {token}") == (200, "")


@pytest.mark.attack("T01", reason="message-malformed")
@pytest.mark.parametrize(
    "query", ["after=nonsense", "after=%00", "state=trusted%27--", "limit=0", "limit=501", "limit=1e3", "state=TRUSTED"]
)
def test_t01_a_hostile_query_of_a_token_holder_is_refused(site: tuple[World, SoftChip], query: str) -> None:
    fleet, _ = site
    header = {"authorization": f"Bearer {a_token(fleet, 'devices:read')}"}
    assert problem_code(fleet.call("GET", f"/v1/devices?{query}", headers=header)) == (400, "message-malformed")


# --- T02 ----------------------------------------------------------------------------------------------------------------

ISSUER = "spiffe://fleet.example"


@pytest.fixture
def shown(fleet: World, gate: SoftChip) -> tuple[World, SoftChip, str, bytes]:
    """A trusted device, its result, and the nonce of the proof that the result is about."""
    nonce = fleet.enrol(gate).next.nonce
    return fleet, gate, fleet.attest(gate.attest_request(nonce)).result, nonce


def read(fleet: World, token: str, device_id: str, **changes: Any) -> Any:
    """Read a result as a relying party does."""
    fields = {"issuer": ISSUER, "device_id": device_id, "now": fleet.now_s, **changes}
    return verify_ear(token, fleet.verifier.result_key.private.public_key(), **fields)


def test_t02_a_result_is_read_by_whoever_asks_for_this_device_and_this_nonce(
    shown: tuple[World, SoftChip, str, bytes],
) -> None:
    fleet, gate, token, nonce = shown
    assert read(fleet, token, gate.device_id, nonce=nonce).tier is Tier.AFFIRMING


@pytest.mark.attack("T02")
def test_t02_the_result_of_another_device_is_refused(shown: tuple[World, SoftChip, str, bytes]) -> None:
    fleet, _, token, _ = shown
    other = SoftChip(fleet.now_s)
    with pytest.raises(EarRefused, match="InvalidSubject"):
        read(fleet, token, other.device_id)


@pytest.mark.attack("T02")
@pytest.mark.parametrize("late", [300, 301, 86_400])
def test_t02_a_result_ends_when_the_trust_that_it_tells_of_ends(
    shown: tuple[World, SoftChip, str, bytes], late: int
) -> None:
    fleet, gate, token, _ = shown
    assert read(fleet, token, gate.device_id, now=fleet.now_s + 298).tier is Tier.AFFIRMING
    with pytest.raises(EarRefused, match="expired"):
        read(fleet, token, gate.device_id, now=fleet.now_s + late)


@pytest.mark.attack("T02")
def test_t02_a_result_from_the_future_is_refused(shown: tuple[World, SoftChip, str, bytes]) -> None:
    fleet, gate, token, _ = shown
    with pytest.raises(EarRefused, match="future"):
        read(fleet, token, gate.device_id, now=fleet.now_s - 120)


@pytest.mark.attack("T02")
@pytest.mark.parametrize("change", [lambda n: bytes(40), lambda n: n[:-1], lambda n: n + b"\0", lambda n: n[::-1]])
def test_t02_the_result_of_another_request_is_refused(
    shown: tuple[World, SoftChip, str, bytes], change: Callable[[bytes], bytes]
) -> None:
    fleet, gate, token, nonce = shown
    with pytest.raises(EarRefused, match="another nonce"):
        read(fleet, token, gate.device_id, nonce=change(nonce))


@pytest.mark.attack("T02")
def test_t02_an_answer_without_the_nonce_of_the_request_is_refused_to_who_asked_for_one(
    shown: tuple[World, SoftChip, str, bytes],
) -> None:
    fleet, gate, _, nonce = shown
    told = fleet.trust(gate.device_id, a_token(fleet, "trust:read"))["result"]
    assert read(fleet, told, gate.device_id).tier is Tier.AFFIRMING
    with pytest.raises(EarRefused, match="another nonce"):
        read(fleet, told, gate.device_id, nonce=nonce)


@pytest.mark.attack("T02")
def test_t02_a_forged_result_is_refused_whatever_its_header_says(shown: tuple[World, SoftChip, str, bytes]) -> None:
    fleet, gate, token, _ = shown
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    own = Ed25519PrivateKey.generate()
    raw = fleet.verifier.result_key.private.public_key().public_bytes_raw()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": encoded_bytes(own.public_key().public_bytes_raw())}
    typed = {"typ": "eat+jwt"}
    forged = {
        "alg none": a_jwt({"alg": "none", **typed}, claims, lambda _: b""),
        "HS256 with the public key": a_jwt({"alg": "HS256", **typed}, claims, lambda m: hmac.digest(raw, m, "sha256")),
        "key in the header": a_jwt({"alg": "EdDSA", "jwk": jwk, **typed}, claims, own.sign),
        "another key": sign_ear(claims, EarKey(own)),
        "another payload": f"{header}.{encoded({**claims, 'exp': claims['exp'] + 86_400})}.{signature}",
        "no signature": f"{header}.{payload}.",
        "another issuer": sign_ear({**claims, "iss": "spiffe://other.example"}, fleet.verifier.result_key),
        "no expiry": sign_ear({k: v for k, v in claims.items() if k != "exp"}, fleet.verifier.result_key),
        "contradiction": sign_ear({**claims, "ear_status": "warning"}, fleet.verifier.result_key),
        "too long": token + "A" * 20_000,
    }
    for name, bad in forged.items():
        with pytest.raises(EarRefused):
            pytest.fail(f"{name}: {read(fleet, bad, gate.device_id)}")
    assert read(fleet, token, gate.device_id).device_id == gate.device_id


@pytest.mark.attack("T02", reason="enrolment-needed")
def test_t02_after_a_failure_the_verifier_shows_no_result_that_affirms(fleet: World, gate: SoftChip) -> None:
    enrolled = fleet.enrol(gate)
    reader = a_token(fleet, "trust:read")
    before = fleet.call("GET", f"/v1/devices/{gate.device_id}/trust", headers={"authorization": f"Bearer {reader}"})
    gate.boot(EVIL)
    with turned_away("evidence-refused"):
        fleet.attest(gate.whole_attest_request(enrolled.next.nonce))
    told = fleet.trust(gate.device_id, reader)
    assert (told["trusted"], read(fleet, told["result"], gate.device_id).tier) == (False, Tier.CONTRAINDICATED)
    headers = {"authorization": f"Bearer {reader}", "if-none-match": before[1]["etag"]}
    assert fleet.call("GET", f"/v1/devices/{gate.device_id}/trust", headers=headers)[0] == 200, "not 304"


@pytest.mark.attack("T02")
def test_t02_the_answer_about_one_device_is_not_taken_for_anothers(fleet: World, gate: SoftChip) -> None:
    fleet.enrol(gate)
    other = SoftChip(fleet.now_s)
    fleet.announce(other, "gate-2")
    fleet.enrol(other)
    reader = {"authorization": f"Bearer {a_token(fleet, 'trust:read')}"}
    path = "/v1/devices/{}/trust"
    tag = fleet.call("GET", path.format(gate.device_id), headers=reader)[1]["etag"]
    assert fleet.call("GET", path.format(gate.device_id), headers={**reader, "if-none-match": tag})[0] == 304
    status, headers, body = fleet.call("GET", path.format(other.device_id), headers={**reader, "if-none-match": tag})
    assert (status, json.loads(body)["device_id"]) == (200, other.device_id)
    assert headers["cache-control"] == "private, no-cache"
    assert read(fleet, json.loads(body)["result"], other.device_id).device_id == other.device_id
