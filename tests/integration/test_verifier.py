"""The main job through HTTP, on both databases: a device enrols, proves itself, fails, comes back, falls silent."""

import base64
import hashlib
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jwt
import pytest
from cryptography import x509

from attestd.appraisal.ear import verify_ear
from attestd.appraisal.policy import Tier
from attestd.errors import Refused
from attestd.evidence.challenge import Challenger
from attestd.protocol.messages import RuntimeList
from attestd.protocol.reasons import Reason
from attestd.services.attest import check_nonce
from attestd.services.sweep import expire_silent
from attestd.store import credentials, log, tokens
from attestd.store.tokens import TokenRecord
from attestd_agent.lab.firmware import BootImage
from attestd_pki.crl import verify_crl
from softchip import GOOD_MAKER, UNKNOWN_MAKER, SoftChip
from tpm_structures import ima_entry
from world import Problem, World, golden_profile

EVIL = BootImage().with_command_line("root=/dev/sda1 evil=1")


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    with World(database_url).listening() as made:
        yield made
        made.verifier.store.close()


@pytest.fixture
def chip(world: World) -> SoftChip:
    """A device that is announced and boots what its profile says."""
    made = SoftChip(world.now_s)
    world.announce(made)
    world.golden(made)
    return made


def a_token(world: World, *scopes: str, site: str | None = None) -> str:
    token = "attestd_" + base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    digest = hashlib.sha256(token.encode()).digest()
    with world.verifier.store.write() as connection:
        tokens.insert_token(connection, TokenRecord(digest, "gateway", scopes, site, world.now()))
    return token


def revoked(world: World) -> frozenset[int]:
    """Serial numbers on the published revocation list."""
    _, _, der = world.call("GET", "/v1/crl")
    told = verify_crl(der, issuer=world.verifier.issuer.identity, now=world.now_s)
    return frozenset(entry.serial for entry in told.entries)


def serial(chain: tuple[bytes, ...]) -> int:
    return x509.load_der_x509_certificate(chain[0]).serial_number


def test_an_announced_device_gets_a_certificate_and_a_tunnel(world: World, chip: SoftChip) -> None:
    enrolled = world.enrol(chip)
    assert enrolled.state == "trusted"
    certificate = x509.load_der_x509_certificate(enrolled.certificate_chain[0])
    assert certificate.public_key() == chip.device_key.public_key()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [f"{chip.device_id}.devices.fleet.example"]
    (tunnel,) = enrolled.vpn
    assert tunnel.public_key == chip.vpn_keys[0][1]
    assert tunnel.addresses[0].startswith("100.64.")
    assert tunnel.addresses[1].startswith("fd00:a77e:57d0:")


def test_the_result_is_an_ear_that_pyjwt_verifies(world: World, chip: SoftChip) -> None:
    enrolled = world.enrol(chip)
    key = world.verifier.result_key.private.public_key()
    claims = jwt.decode(enrolled.result, key, algorithms=["EdDSA"], options={"verify_exp": False})
    assert claims["sub"] == chip.device_id
    assert claims["ear_status"] == "affirming"
    told = verify_ear(enrolled.result, key, issuer="spiffe://fleet.example", device_id=chip.device_id, now=world.now_s)
    assert told.tier is Tier.AFFIRMING


def test_a_routine_proof_sends_its_log_by_reference(world: World, chip: SoftChip) -> None:
    nonce = world.enrol(chip).next.nonce
    first = world.attest(chip.attest_request(nonce))
    second = world.attest(chip.attest_request(first.next.nonce))
    assert (first.state, first.changed, second.state) == ("trusted", (), "trusted")
    with world.verifier.store.read() as connection:
        kinds = [row.kind for row in log.list_attestations(connection, chip.device_id)]
    assert kinds == ["attest", "attest", "enrol"]


def test_a_bad_kernel_ends_trust_names_the_component_and_withdraws_everything(world: World, chip: SoftChip) -> None:
    token = a_token(world, "trust:read")
    enrolled = world.enrol(chip)
    assert world.trust(chip.device_id, token)["trusted"] is True
    chip.boot(EVIL)
    with pytest.raises(Problem) as refused:
        world.attest(chip.whole_attest_request(enrolled.next.nonce))
    assert refused.value.code == "evidence-refused"
    named = {(finding["claim"], finding["code"]) for finding in refused.value.document["findings"]}
    assert ("kernel-command-line", "claim-mismatch") in named
    assert serial(enrolled.certificate_chain) in revoked(world)
    with world.verifier.store.read() as connection:
        assert credentials.active_vpn_keys(connection, chip.device_id) == ()
    answer = world.trust(chip.device_id, token)
    assert (answer["trusted"], answer["state"], answer["certificate_serial"]) == (False, "untrusted", None)
    key = world.verifier.result_key.private.public_key()
    told = verify_ear(answer["result"], key, issuer="spiffe://fleet.example", device_id=chip.device_id, now=world.now_s)
    assert told.tier is Tier.CONTRAINDICATED


def test_a_repaired_device_comes_back_by_enrolling_with_new_keys(world: World, chip: SoftChip) -> None:
    enrolled = world.enrol(chip)
    chip.boot(EVIL)
    with pytest.raises(Problem):
        world.attest(chip.whole_attest_request(enrolled.next.nonce))
    chip.boot(BootImage())
    with pytest.raises(Problem) as refused:
        world.attest(chip.whole_attest_request(enrolled.next.nonce))
    assert refused.value.code == "enrolment-needed"
    with pytest.raises(Problem) as reused:
        world.enrol(chip)
    assert reused.value.code == "vpn-key-in-use"
    chip.renew_keys()
    again = world.enrol(chip)
    assert again.state == "trusted"
    assert again.vpn[0].addresses == enrolled.vpn[0].addresses
    assert serial(again.certificate_chain) not in revoked(world)


def test_a_device_that_nobody_announced_waits(world: World) -> None:
    stranger = SoftChip(world.now_s)
    world.golden(stranger)
    with pytest.raises(Problem) as refused:
        world.enrol(stranger)
    assert (refused.value.code, refused.value.headers["retry-after"]) == ("device-unannounced", "60")
    token = a_token(world, "trust:read")
    assert world.trust(stranger.device_id, token)["state"] == "pending"
    world.announce(stranger)
    assert world.enrol(stranger).state == "trusted"


def test_a_tpm_of_an_unknown_manufacturer_is_refused_for_its_chain(world: World) -> None:
    fake = SoftChip(world.now_s, maker=UNKNOWN_MAKER)
    world.announce(fake)
    with pytest.raises(Problem) as refused:
        world.begin(fake.request())
    assert refused.value.code == "ek-chain-untrusted"
    assert "findings" not in refused.value.document


def test_a_tampered_device_is_refused_at_its_first_boot(world: World, chip: SoftChip) -> None:
    chip.boot(EVIL)
    with pytest.raises(Problem) as refused:
        world.enrol(chip)
    assert refused.value.code == "evidence-refused"
    finding = next(f for f in refused.value.document["findings"] if f["claim"] == "kernel-command-line")
    assert "evil=1" in finding["component"]
    assert finding["pcr"] == 8


def test_a_silent_device_expires_by_itself(world: World, chip: SoftChip) -> None:
    token = a_token(world, "trust:read")
    enrolled = world.enrol(chip)
    world.pass_time(301)
    assert world.trust(chip.device_id, token)["state"] == "expired"  # before any sweep
    deadline = 50
    while serial(enrolled.certificate_chain) not in revoked(world) and deadline:
        expire_silent(world.verifier)
        deadline -= 1
    assert deadline
    with pytest.raises(Problem) as refused:
        world.attest(chip.attest_request(enrolled.next.nonce))
    assert refused.value.code == "nonce-expired"
    fresh = base64.urlsafe_b64decode(refused.value.document["nonce"] + "==")
    with pytest.raises(Problem) as ended:
        world.attest(chip.attest_request(fresh))
    assert ended.value.code == "enrolment-needed"


def test_a_reboot_is_announced_and_keeps_trust(world: World, chip: SoftChip) -> None:
    nonce = world.enrol(chip).next.nonce
    chip.boot()
    answer = world.attest(chip.whole_attest_request(nonce))
    assert answer.state == "trusted"
    assert "rebooted" in answer.changed


def test_an_unknown_log_is_asked_for(world: World, chip: SoftChip) -> None:
    nonce = world.enrol(chip).next.nonce
    with pytest.raises(Problem) as refused:
        world.attest(replace(chip.attest_request(nonce), log=bytes(32)))
    assert refused.value.code == "log-needed"
    assert refused.value.document["nonce"]


def test_a_certificate_is_renewed_when_due(world: World, chip: SoftChip) -> None:
    world.activate(golden_profile(chip, version=2, interval=3600, deadline=6 * 3600))
    enrolled = world.enrol(chip)
    early = world.attest(chip.attest_request(enrolled.next.nonce))
    assert early.certificate_chain == ()
    world.pass_time(5 * 3600)
    late = world.attest(chip.attest_request(early.next.nonce))
    assert serial(late.certificate_chain) != serial(enrolled.certificate_chain)
    assert serial(enrolled.certificate_chain) not in revoked(world)


def test_a_new_profile_version_takes_effect_at_the_next_proof(world: World, chip: SoftChip) -> None:
    enrolled = world.enrol(chip)
    other = SoftChip(world.now_s, image=BootImage().with_kernel("6.1.0-31-amd64"))
    world.activate(golden_profile(other, version=2))
    both = world.attest(chip.attest_request(enrolled.next.nonce))
    assert both.state == "trusted"  # both versions are active during an update
    body = b'{"profile":"edge","versions":[1]}'
    world.change("profile-retire", "edge", body)
    with pytest.raises(Problem) as refused:
        world.attest(chip.attest_request(both.next.nonce))
    assert refused.value.code == "evidence-refused"


def test_a_withdrawn_device_loses_its_trust_at_the_next_proof(world: World, chip: SoftChip) -> None:
    enrolled = world.enrol(chip)
    world.withdraw(chip)
    with pytest.raises(Problem) as refused:
        world.attest(chip.attest_request(enrolled.next.nonce))
    assert refused.value.code == "inventory-withdrawn"
    assert serial(enrolled.certificate_chain) in revoked(world)


def test_a_trust_answer_has_an_etag_that_follows_the_answer(world: World, chip: SoftChip) -> None:
    token = a_token(world, "trust:read")
    enrolled = world.enrol(chip)
    path, header = f"/v1/devices/{chip.device_id}/trust", {"authorization": f"Bearer {token}"}
    status, headers, _ = world.call("GET", path, headers=header)
    assert status == 200
    assert world.call("GET", path, headers={**header, "if-none-match": headers["etag"]})[0] == 304
    world.attest(chip.attest_request(enrolled.next.nonce))
    assert world.call("GET", path, headers={**header, "if-none-match": headers["etag"]})[0] == 200


def test_only_the_hash_of_a_token_is_stored(world: World) -> None:
    token = a_token(world, "trust:read")
    with world.verifier.store.read() as connection:
        (kept,) = tokens.list_tokens(connection)
    assert kept.hash == hashlib.sha256(token.encode()).digest()
    assert token not in repr(kept)


def test_a_message_in_json_does_the_same(world: World, chip: SoftChip) -> None:
    from attestd.protocol import codec
    from attestd.protocol.messages import PATH_ENROL, PATH_ENROL_PROOF, EnrolChallenge, Enrolled

    body = codec.encode(chip.request(), codec.JSON)
    challenge = world.post(PATH_ENROL, body, EnrolChallenge, media_type=codec.JSON)
    enrolled = world.post(PATH_ENROL_PROOF, chip.proof(body, challenge), Enrolled, media_type=codec.JSON)
    assert enrolled.state == "trusted"


@pytest.mark.skipif(shutil.which("wg-quick") is None, reason="wg-quick missing: apt-get install wireguard-tools")
def test_wg_quick_accepts_the_configuration(world: World, chip: SoftChip, tmp_path: Path) -> None:
    (tunnel,) = world.enrol(chip).vpn
    file = tmp_path / "wg0.conf"
    file.write_text(tunnel.config)
    file.chmod(0o600)
    stripped = subprocess.run(["wg-quick", "strip", str(file)], capture_output=True, text=True, check=True).stdout
    assert "PublicKey" in stripped
    assert "Address" not in stripped


def test_the_unknown_maker_is_really_another(world: World) -> None:
    assert GOOD_MAKER.anchor != UNKNOWN_MAKER.anchor


def test_a_restarted_verifier_hands_out_a_new_nonce_and_trust_goes_on(world: World, chip: SoftChip) -> None:
    nonce = world.enrol(chip).next.nonce
    restarted = replace(world.verifier, challenger=Challenger("attestd", bytes(32)))
    stranger = replace(chip.attest_request(nonce), nonce=nonce)
    with pytest.raises(Refused) as refused:
        check_nonce(restarted, stranger)
    assert refused.value.reason is Reason.NONCE_INVALID
    assert refused.value.nonce is not None
    check_nonce(restarted, chip.attest_request(refused.value.nonce))


RUNTIME_POLICY = """
runtime:
  check: required
  allow:
    /bin/sh: ["sha256:{good}"]
tiers:
  runtime: warning
"""


def measure(chip: SoftChip, path: bytes, digest: bytes) -> bytes:
    """Have the kernel measure a file; return the entry of its list."""
    entry = ima_entry(path, file_digest=digest)
    data = entry[4 + 20 + 4 + len(b"ima-ng") + 4 :]
    chip.registers[10] = hashlib.sha256(chip.registers[10] + hashlib.sha256(data).digest()).digest()
    return entry


def test_a_runtime_warning_is_not_forgotten_with_the_next_good_file(world: World) -> None:
    chip = SoftChip(world.now_s)
    world.announce(chip)
    aggregate = hashlib.sha256(b"".join(chip.registers[index] for index in range(10))).digest()
    good = hashlib.sha256(b"a shell").digest()
    world.activate(golden_profile(chip) + RUNTIME_POLICY.format(good=good.hex()))
    listed = [measure(chip, b"boot_aggregate", aggregate), measure(chip, b"/bin/sh", good)]
    enrolled = world.enrol(chip, runtime=RuntimeList(0, b"".join(listed)))
    assert enrolled.state == "trusted"

    listed.append(measure(chip, b"/bin/evil", bytes(32)))
    warned = world.attest(
        chip.attest_request(enrolled.next.nonce, pcrs=chip.values(), runtime=RuntimeList(2, listed[2]))
    )
    assert (warned.state, warned.findings[0].component) == ("suspect", "/bin/evil")

    listed.append(measure(chip, b"/bin/sh", good))
    with pytest.raises(Problem) as refused:
        world.attest(chip.attest_request(warned.next.nonce, pcrs=chip.values(), runtime=RuntimeList(3, listed[3])))
    assert refused.value.code == "runtime-needed"
    whole = RuntimeList(0, b"".join(listed))
    again = world.attest(chip.attest_request(warned.next.nonce, pcrs=chip.values(), runtime=whole))
    assert again.state == "suspect"


def test_a_proof_without_a_runtime_part_says_that_nothing_new_ran(world: World) -> None:
    chip = SoftChip(world.now_s)
    world.announce(chip)
    aggregate = hashlib.sha256(b"".join(chip.registers[index] for index in range(10))).digest()
    good = hashlib.sha256(b"a shell").digest()
    world.activate(golden_profile(chip) + RUNTIME_POLICY.format(good=good.hex()))
    listed = measure(chip, b"boot_aggregate", aggregate) + measure(chip, b"/bin/sh", good)
    enrolled = world.enrol(chip, runtime=RuntimeList(0, listed))
    first = world.attest(chip.attest_request(enrolled.next.nonce))
    assert first.state == "trusted"
    measure(chip, b"/bin/evil", bytes(32))
    with pytest.raises(Problem) as refused:
        world.attest(chip.attest_request(first.next.nonce, pcrs=chip.values()))
    assert refused.value.code == "evidence-refused"


def test_the_hardware_stays_vouched_for_after_the_enrolment(world: World, chip: SoftChip) -> None:
    def hardware(token: str) -> int:
        claims = jwt.decode(token, options={"verify_signature": False})
        return int(claims["submods"]["platform"]["ear_trustworthiness_vector"]["hardware"])

    enrolled = world.enrol(chip)
    assert hardware(world.attest(chip.attest_request(enrolled.next.nonce)).result) == hardware(enrolled.result) == 2


@pytest.mark.attack("E08", reason="evidence-refused")
def test_e08_a_reboot_that_the_tpm_knows_nothing_of_drops_no_runtime_list(world: World) -> None:
    chip = SoftChip(world.now_s)
    world.announce(chip)
    aggregate = hashlib.sha256(b"".join(chip.registers[index] for index in range(10))).digest()
    good = hashlib.sha256(b"a shell").digest()
    optional = RUNTIME_POLICY.format(good=good.hex()).replace("required", "optional").partition("tiers:")[0]
    world.activate(golden_profile(chip) + optional)
    listed = measure(chip, b"boot_aggregate", aggregate) + measure(chip, b"/bin/sh", good)
    enrolled = world.enrol(chip, runtime=RuntimeList(0, listed))
    assert enrolled.state == "trusted"
    measure(chip, b"/bin/evil", bytes(32))
    with pytest.raises(Problem) as refused:
        world.attest(chip.whole_attest_request(enrolled.next.nonce))
    assert refused.value.code == "evidence-refused"
