"""Certificates for another key, another name or another time; without a grant; and for devices whose trust has ended."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import tpm_structures as tpm
from attacks.fixtures_pct import (
    EVIL,
    a_token,
    announced,
    credentials_of,
    profile_with,
    refused,
    revoked,
    serial,
    standing,
    state_of,
    turned_away,
    unchanged,
)
from attestd.errors import Refused
from attestd.lifecycle.table import Event
from attestd.protocol import codec
from attestd.protocol.binding import Purpose
from attestd.protocol.messages import PATH_ATTEST, PATH_ENROL, PATH_ENROL_PROOF, Attested, EnrolChallenge, Enrolled
from attestd.services import custody, issue
from attestd.services.context import Timing
from attestd.store import credentials
from attestd.store.credentials import GrantRecord
from attestd_agent.lab.firmware import BootImage
from attestd_pki import names, profiles
from attestd_pki.grant import Grant
from attestd_pki.profiles import GRANT_DIGEST_OID
from pki_world import CRL_URL, SUFFIX, TRUST_DOMAIN, spki
from softchip import DEVICE_KEY_ATTRIBUTES, SoftChip
from world import World, golden_profile, sqlite_world

pytest_plugins = ("attacks.fixtures_pct",)

WISHES: dict[str, Any] = {
    "csr": b"-----BEGIN CERTIFICATE REQUEST-----",
    "certificate_request": b"\x30\x00",
    "subject": "CN=somebody-else",
    "subject_alt_names": ["*.devices.fleet.example", "root@fleet.example"],
    "dns_name": "another.devices.fleet.example",
    "device_id": "a" * 52,
    "uri": "spiffe://fleet.example/device/another",
    "ca": True,
    "eku": ["1.3.6.1.5.5.7.3.1"],
    "not_after": 4_000_000_000,
    "lifetime": 10 * 365 * 86_400,
    "address": "100.64.0.1",
    "profile": "easy",
}


# --- C01 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.attack("C01", reason="message-malformed")
@pytest.mark.parametrize("wish", WISHES)
def test_c01_a_message_has_no_place_for_a_wish(fleet: World, gate: SoftChip, wish: str) -> None:
    body = codec.encode(gate.request(), codec.CBOR)
    proof = codec.encode(gate.proof(body, fleet.begin(body)), codec.CBOR)
    routine = codec.encode(gate.attest_request(bytes(40)), codec.CBOR)
    messages = (
        (PATH_ENROL, body, EnrolChallenge),
        (PATH_ENROL_PROOF, proof, Enrolled),
        (PATH_ATTEST, routine, Attested),
    )
    for path, message, answer in messages:
        if wish in cbor2.loads(message):  # device_id names who attests, and decides nothing else
            continue
        hostile = cbor2.dumps({wish: WISHES[wish], **cbor2.loads(message)})
        with refused(fleet, "message-malformed"):
            fleet.post(path, hostile, answer)
    assert fleet.post(PATH_ENROL_PROOF, proof, Enrolled).state == "trusted"


@pytest.mark.attack("C01", reason="message-malformed")
def test_c01_a_wish_inside_the_repeated_request_is_refused_too(fleet: World, gate: SoftChip) -> None:
    body = codec.encode(gate.request(), codec.CBOR)
    challenge = fleet.begin(body)
    hostile = cbor2.dumps({**cbor2.loads(body), "csr": b"csr"})
    with refused(fleet, "message-malformed"):
        fleet.prove(gate.proof(hostile, challenge))


def certificate_of(chain: tuple[bytes, ...]) -> x509.Certificate:
    return x509.load_der_x509_certificate(chain[0])


@pytest.mark.attack("C01")
def test_c01_a_certificate_says_what_its_profile_says_whatever_the_labels_say(fleet: World) -> None:
    gate = announced(fleet)
    labels = (("ca", "true"), ("cn", "root"), ("dns_name", "*.fleet.example"), ("email", "root@fleet.example"))
    body = codec.encode(gate.request(labels=labels), codec.CBOR)
    enrolled = fleet.prove(gate.proof(body, fleet.begin(body)))
    found = certificate_of(enrolled.certificate_chain)
    with fleet.verifier.store.read() as connection:
        (grant,) = connection.exec_driver_sql('SELECT body FROM "grant"').scalars().all()
    uri, dns = names.spiffe_id(TRUST_DOMAIN, gate.device_id), names.dns_name(gate.device_id, SUFFIX)
    encoded = spki(gate.device_key)
    authority = fleet.verifier.issuer.identity.authority
    assert [(part.oid, part.value) for part in found.subject] == [(NameOID.COMMON_NAME, gate.device_id)]
    assert found.issuer == authority.subject
    assert found.public_key() == gate.device_key.public_key()
    assert found.not_valid_after_utc - found.not_valid_before_utc == timedelta(hours=6)
    assert abs(found.not_valid_before_utc.timestamp() + 60 - fleet.now_s) < 30
    assert found.serial_number.bit_length() == 128
    ski = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    place = x509.DistributionPoint([x509.UniformResourceIdentifier(CRL_URL)], None, None, None)
    assert [(one.value, one.critical) for one in found.extensions] == [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.KeyUsage(True, False, False, False, False, False, False, False, False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), x509.DNSName(dns)]), False),
        (x509.SubjectKeyIdentifier(profiles.key_identifier(encoded)), False),
        (x509.AuthorityKeyIdentifier(ski, None, None), False),
        (x509.CRLDistributionPoints([place]), False),
        (x509.UnrecognizedExtension(GRANT_DIGEST_OID, b"\x04\x20" + hashlib.sha256(bytes(grant)).digest()), False),
    ]


@pytest.mark.attack("C01", reason="device-key-not-certified")
@pytest.mark.parametrize("which", ["the attacker's key asked for", "another key certified"])
def test_c01_a_key_that_is_not_the_certified_one_gets_no_certificate(fleet: World, gate: SoftChip, which: str) -> None:
    exported = tpm.ecc_area(ec.generate_private_key(ec.SECP256R1()), attributes=DEVICE_KEY_ATTRIBUTES, scheme=tpm.NULL)
    honest = gate.device_key_area
    if which == "the attacker's key asked for":
        body = codec.encode(gate.request(device_key=tpm.sized(exported)), codec.CBOR)
        asked, certified = exported, honest
    else:
        body = codec.encode(gate.request(), codec.CBOR)
        asked, certified = honest, exported
    challenge = fleet.begin(body)
    nonces = tuple(one.nonce for one in challenge.challenges)
    name = tpm.name_of(asked)
    proof = gate.proof(
        body,
        challenge,
        certify=gate.certify(gate.bound(Purpose.ENROL_CERTIFY, nonces, device_key_name=name), area=certified),
        quote=gate.quote(gate.bound(Purpose.ENROL_QUOTE, nonces, device_key_name=name)),
    )
    with refused(fleet, "device-key-not-certified"):
        fleet.prove(proof)
    assert fleet.enrol(gate).state == "trusted"


@pytest.mark.attack("C01", reason="nonce-invalid")
def test_c01_a_key_exchanged_between_the_two_messages_gets_no_certificate(fleet: World, gate: SoftChip) -> None:
    challenge = fleet.begin(codec.encode(gate.request(), codec.CBOR))
    gate.renew_keys()
    with refused(fleet, "nonce-invalid"):
        fleet.prove(gate.proof(codec.encode(gate.request(), codec.CBOR), challenge))


@pytest.mark.attack("C01", reason="device-key-malformed")
@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP521R1()), ec.generate_private_key(ec.SECP256K1())])
def test_c01_a_key_of_a_kind_that_the_profile_does_not_have_gets_no_certificate(fleet: World, key: Any) -> None:
    gate = announced(fleet)
    area = bytearray(
        tpm.ecc_area(ec.generate_private_key(ec.SECP256R1()), attributes=DEVICE_KEY_ATTRIBUTES, scheme=tpm.NULL)
    )
    del area[-36:]
    numbers = key.public_key().public_numbers()
    size = (key.curve.key_size + 7) // 8
    with refused(fleet, "device-key-malformed"):
        fleet.begin(
            gate.request(
                device_key=tpm.sized(
                    bytes(area) + tpm.sized(numbers.x.to_bytes(size)) + tpm.sized(numbers.y.to_bytes(size))
                )
            )
        )


@pytest.mark.attack("C01")
def test_c01_no_configuration_makes_a_certificate_live_longer_than_a_day(tmp_path: Path) -> None:
    with sqlite_world(tmp_path, timing=Timing(pending_retry=60, certificate=365 * 86_400, crl=3600)) as fleet:
        found = certificate_of(fleet.enrol(announced(fleet)).certificate_chain)
        fleet.verifier.store.close()
    assert found.not_valid_after_utc - found.not_valid_before_utc == timedelta(days=1)


# --- C02 ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def grant(fleet: World, gate: SoftChip) -> Grant:
    """The grant that the device's enrolment used, made anew under an id of its own: nobody has stored it."""
    fleet.enrol(gate)
    with fleet.verifier.store.read() as connection:
        (body,) = connection.exec_driver_sql('SELECT body FROM "grant"').scalars().all()
    return replace(Grant.decode(bytes(body)), grant_id=b"\x11" * 16)


def store(fleet: World, grant: Grant, *, device_id: str | None = None) -> None:
    with fleet.verifier.store.write() as connection:
        record = GrantRecord(
            grant.grant_id, device_id or grant.device_id, grant.encode(), fleet.now(), grant.expires_at * 1000
        )
        credentials.insert_grant(connection, record)


def redeem(fleet: World, grant: Grant, *, later: int = 0) -> tuple[bytes, ...]:
    with fleet.verifier.store.write() as connection:
        return issue.redeem_certificate(fleet.verifier, connection, grant, now=fleet.now() + later * 1000)


def test_c02_a_stored_grant_buys_its_certificate(fleet: World, grant: Grant) -> None:
    store(fleet, grant)
    assert certificate_of(redeem(fleet, grant)).subject.rfc4514_string() == f"CN={grant.device_id}"


@pytest.mark.attack("C02", reason="grant-invalid")
def test_c02_a_grant_that_nobody_stored_buys_nothing(fleet: World, grant: Grant) -> None:
    with unchanged(fleet), pytest.raises(Refused, match="grant-invalid"):
        redeem(fleet, grant)


@pytest.mark.attack("C02", reason="grant-used")
def test_c02_a_used_grant_buys_nothing(fleet: World, grant: Grant) -> None:
    store(fleet, grant)
    redeem(fleet, grant)
    with unchanged(fleet), pytest.raises(Refused, match="grant-used"):
        redeem(fleet, grant)


@pytest.mark.attack("C02", reason="grant-used")
def test_c02_another_devices_grant_buys_nothing(fleet: World, grant: Grant) -> None:
    other = SoftChip(fleet.now_s)
    fleet.announce(other, "gate-2")
    fleet.enrol(other)
    store(fleet, grant, device_id=other.device_id)
    with unchanged(fleet), pytest.raises(Refused, match="grant-used"):
        redeem(fleet, grant)


@pytest.mark.attack("C02", reason="grant-expired")
def test_c02_an_expired_grant_buys_nothing(fleet: World, grant: Grant) -> None:
    store(fleet, grant)
    with unchanged(fleet), pytest.raises(Refused, match="grant-expired"):
        redeem(fleet, grant, later=61)


@pytest.mark.attack("C02", reason="grant-invalid")
def test_c02_a_grant_of_another_content_under_a_stored_id_buys_nothing(fleet: World, grant: Grant) -> None:
    store(fleet, grant)
    key = ec.generate_private_key(ec.SECP256R1())
    forged = replace(grant, subject_public_key=spki(key))
    with unchanged(fleet), pytest.raises(Refused, match="grant-invalid"):
        redeem(fleet, forged)


@pytest.mark.attack("C02", reason="grant-invalid")
@pytest.mark.parametrize("event", [Event.BANNED, Event.RETIRED, Event.READMITTED])
def test_c02_a_grant_buys_nothing_after_the_devices_trust_was_ended(
    fleet: World, gate: SoftChip, grant: Grant, event: Event
) -> None:
    store(fleet, grant)
    custody.decide(fleet.verifier, gate.device_id, event, actor="alice", reason="test")
    with unchanged(fleet), pytest.raises(Refused, match="grant-invalid"):
        redeem(fleet, grant)


@pytest.mark.attack("C02", reason="not-found")
def test_c02_no_route_hands_a_grant_in(fleet: World, grant: Grant, monkeypatch: pytest.MonkeyPatch) -> None:
    store(fleet, grant)
    calls: list[Grant] = []
    redeem_certificate = issue.redeem_certificate

    def counted(verifier: Any, connection: Any, grant: Grant, *, now: int) -> tuple[bytes, ...]:
        calls.append(grant)
        return redeem_certificate(verifier, connection, grant, now=now)

    monkeypatch.setattr(issue, "redeem_certificate", counted)
    before = standing(fleet)
    token = {"authorization": f"Bearer {a_token(fleet, 'trust:read', 'devices:read')}"}
    body = grant.encode()
    for path in (
        PATH_ENROL,
        PATH_ENROL_PROOF,
        PATH_ATTEST,
        "/v1/grants",
        f"/v1/grants/{grant.grant_id.hex()}",
        "/v1/certificates",
        "/v1/renew",
        f"/v1/devices/{grant.device_id}/certificate",
        f"/v1/devices/{grant.device_id}/trust",
        "/.well-known/est/simplereenroll",
    ):
        for method in ("POST", "PUT", "GET", "DELETE"):
            status, _, _ = fleet.call(method, path, body, {"content-type": codec.CBOR, **token})
            assert status in (400, 404, 405) or (method, path) == ("GET", f"/v1/devices/{grant.device_id}/trust")
    assert calls == []
    assert {**standing(fleet), "token": []} == {**before, "token": []}
    other = SoftChip(fleet.now_s)
    fleet.announce(other, "gate-2")
    fleet.enrol(other)
    assert [one.device_id for one in calls] == [other.device_id], "an enrolment does reach it"


# --- C03 ----------------------------------------------------------------------------------------------------------------

HOUR = 3600


@pytest.fixture
def due(no_sweep: None, fleet: World) -> tuple[World, SoftChip, Enrolled]:
    """A device whose certificate is due: five of its six hours have passed, and its deadline has not."""
    gate = SoftChip(fleet.now_s)
    fleet.announce(gate)
    fleet.activate(golden_profile(gate, interval=HOUR, deadline=6 * HOUR - 60))
    enrolled = fleet.enrol(gate)
    fleet.pass_time(5 * HOUR)
    return fleet, gate, enrolled


def decide(event: Event) -> Callable[[World, SoftChip, Enrolled], object]:
    return lambda fleet, gate, _: custody.decide(fleet.verifier, gate.device_id, event, actor="alice", reason="test")


def fail(fleet: World, gate: SoftChip, enrolled: Enrolled) -> None:
    gate.boot(EVIL)
    with turned_away("evidence-refused"):
        fleet.attest(gate.whole_attest_request(enrolled.next.nonce))
    gate.boot(BootImage())


def fall_silent(fleet: World, _gate: SoftChip, _enrolled: Enrolled) -> None:
    fleet.pass_time(HOUR)


def withdraw(fleet: World, gate: SoftChip, enrolled: Enrolled) -> None:
    fleet.withdraw(gate)
    with turned_away("inventory-withdrawn"):
        fleet.attest(gate.attest_request(enrolled.next.nonce))


def test_c03_a_trusted_device_is_renewed_when_due(due: tuple[World, SoftChip, Enrolled]) -> None:
    fleet, gate, enrolled = due
    chain = fleet.attest(gate.attest_request(enrolled.next.nonce)).certificate_chain
    assert serial(chain) != serial(enrolled.certificate_chain)
    assert certificate_of(chain).public_key() == gate.device_key.public_key()


@pytest.mark.attack("C03", reason="enrolment-needed")
@pytest.mark.parametrize(
    ("end", "code"),
    [
        (decide(Event.BANNED), "device-banned"),
        (decide(Event.RETIRED), "device-retired"),
        (decide(Event.READMITTED), "device-unknown"),
        (fail, "enrolment-needed"),
        (fall_silent, "enrolment-needed"),
        (withdraw, "enrolment-needed"),
    ],
    ids=["banned", "retired", "readmitted", "untrusted", "silent", "withdrawn"],
)
def test_c03_a_device_whose_trust_has_ended_is_not_renewed(
    due: tuple[World, SoftChip, Enrolled], end: Callable[[World, SoftChip, Enrolled], object], code: str
) -> None:
    fleet, gate, enrolled = due
    end(fleet, gate, enrolled)
    held = credentials_of(fleet, gate)
    fresh = fleet.verifier.challenger.attest_nonce(
        gate.device_id, random=bytes(16), issued_ms=fleet.now(), expires_ms=fleet.now() + 60_000
    )
    with refused(fleet, code):
        fleet.attest(gate.whole_attest_request(fresh))
    assert credentials_of(fleet, gate) == held
    if end is not fall_silent:
        assert serial(enrolled.certificate_chain) in revoked(fleet)


@pytest.mark.attack("C03", reason="device-banned")
@pytest.mark.parametrize(("event", "code"), [(Event.BANNED, "device-banned"), (Event.RETIRED, "device-retired")])
def test_c03_whom_a_person_shut_out_does_not_come_back_by_enrolling(
    fleet: World, gate: SoftChip, event: Event, code: str
) -> None:
    fleet.enrol(gate)
    custody.decide(fleet.verifier, gate.device_id, event, actor="alice", reason="test")
    gate.renew_keys()
    with refused(fleet, code):
        fleet.enrol(gate)
    back = Event.UNBANNED if event is Event.BANNED else Event.READMITTED
    custody.decide(fleet.verifier, gate.device_id, back, actor="alice", reason="test")
    assert state_of(fleet, gate) == "expired"
    assert fleet.enrol(gate).state == "trusted"


@pytest.mark.attack("C03")
def test_c03_a_device_with_warnings_keeps_what_it_has_and_gets_nothing_new(no_sweep: None, fleet: World) -> None:
    gate = SoftChip(fleet.now_s)
    fleet.announce(gate)
    fields = {"interval": HOUR, "deadline": 6 * HOUR - 60}
    fleet.activate(profile_with(gate, tiers={"kernel-command-line": "warning", "grub-command": "warning"}, **fields))
    enrolled = fleet.enrol(gate)
    held = credentials_of(fleet, gate)
    gate.boot(EVIL)
    suspect = fleet.attest(gate.whole_attest_request(enrolled.next.nonce))
    assert suspect.state == "suspect"
    fleet.pass_time(5 * HOUR)
    late = fleet.attest(gate.attest_request(suspect.next.nonce))
    assert (late.state, late.certificate_chain, credentials_of(fleet, gate)) == ("suspect", (), held)
    gate.boot(BootImage())
    assert fleet.attest(gate.whole_attest_request(late.next.nonce)).certificate_chain, "once it is good again"
