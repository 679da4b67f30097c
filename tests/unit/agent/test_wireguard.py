"""The tunnel key and its configuration: complete, checked, and in the clear nowhere but where it was asked for."""

import base64
import re
import subprocess
from dataclasses import replace

import pytest

from agent_world import GATEWAY_KEY, SoftTpm
from attestd.protocol.messages import WIREGUARD, VpnCredential, VpnPeer
from attestd_agent import wireguard
from attestd_agent.errors import StateDamaged
from attestd_agent.tpm import TpmUnavailable
from attestd_agent.wireguard import TunnelKey

PEER = VpnPeer(GATEWAY_KEY, "vpn.example:51820", ("100.64.0.0/10", "fd00::/64"), 25)


@pytest.fixture
def tpm() -> SoftTpm:
    return SoftTpm()


@pytest.fixture
def key(tpm: SoftTpm) -> TunnelKey:
    return wireguard.new_key(tpm)


@pytest.fixture
def credential(key: TunnelKey) -> VpnCredential:
    return VpnCredential(WIREGUARD, key.public, ("100.64.0.7/32", "fd00::7/128"), (PEER,), "PostUp = reboot")


def test_configuration_is_complete(tpm: SoftTpm, key: TunnelKey, credential: VpnCredential) -> None:
    private = base64.b64encode(tpm.sealed[0]).decode()
    assert wireguard.configuration(tpm, key, credential) == (
        f"[Interface]\nPrivateKey = {private}\nAddress = 100.64.0.7/32, fd00::7/128\n\n"
        f"[Peer]\nPublicKey = {GATEWAY_KEY}\nEndpoint = vpn.example:51820\n"
        "AllowedIPs = 100.64.0.0/10, fd00::/64\nPersistentKeepalive = 25\n"
    )


def test_wireguard_reads_the_configuration_as_it_is_meant(
    tpm: SoftTpm, key: TunnelKey, credential: VpnCredential
) -> None:
    text = wireguard.configuration(tpm, key, credential)
    private = re.search("PrivateKey = (.*)", text)
    assert private
    derived = subprocess.run(["wg", "pubkey"], input=private[1], capture_output=True, text=True, check=True).stdout
    assert base64.b64decode(derived) == key.public


def test_two_keys_differ(tpm: SoftTpm) -> None:
    assert wireguard.new_key(tpm).public != wireguard.new_key(tpm).public


def test_c06_public_configuration_needs_no_tpm_and_has_no_key(credential: VpnCredential) -> None:
    assert "PrivateKey" not in wireguard.public_configuration(credential)


def test_command_that_the_verifier_sent_is_not_in_the_configuration(
    tpm: SoftTpm, key: TunnelKey, credential: VpnCredential
) -> None:
    assert "PostUp" not in wireguard.configuration(tpm, key, credential)


@pytest.mark.parametrize(
    "change",
    [
        {"addresses": ()},
        {"addresses": ("100.64.0.7/32\nPostUp = reboot",)},
        {"addresses": ("host.example",)},
        {"kind": "openvpn"},
        {"public_key": bytes(32)},
        {"peers": (replace(PEER, allowed_ips=("0.0.0.0/0\nPostUp = reboot",)),)},
        {"peers": (replace(PEER, endpoint="vpn.example:51820\nPostUp = reboot"),)},
        {"peers": (replace(PEER, endpoint="vpn.example"),)},
        {"peers": (replace(PEER, endpoint="vpn.example:0"),)},
        {"peers": (replace(PEER, endpoint="vpn.example:65536"),)},
        {"peers": (replace(PEER, endpoint="vpn example:1"),)},
        {"peers": (replace(PEER, public_key="AAAA"),)},
        {"peers": (replace(PEER, public_key=GATEWAY_KEY + "\n#"),)},
        {"peers": (replace(PEER, public_key="!" * 44),)},
    ],
)
def test_credential_with_anything_else_in_it_is_refused(
    tpm: SoftTpm, key: TunnelKey, credential: VpnCredential, change: dict[str, object]
) -> None:
    with pytest.raises(StateDamaged):
        wireguard.configuration(tpm, key, replace(credential, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("endpoint", ["10.0.0.1:51820", "[2001:db8::1]:51820", "a:1"])
def test_endpoints_of_every_form_are_taken(
    tpm: SoftTpm, key: TunnelKey, credential: VpnCredential, endpoint: str
) -> None:
    changed = replace(credential, peers=(replace(PEER, endpoint=endpoint),))
    assert f"Endpoint = {endpoint}\n" in wireguard.configuration(tpm, key, changed)


def test_other_secret_in_the_seal_is_refused(tpm: SoftTpm, key: TunnelKey, credential: VpnCredential) -> None:
    tpm.sealed[0] = bytes(range(32))
    with pytest.raises(StateDamaged):
        wireguard.configuration(tpm, key, credential)


def test_c06_no_error_shows_the_key(tpm: SoftTpm, key: TunnelKey, credential: VpnCredential) -> None:
    secret = tpm.sealed[0] = b"\x42" * 33
    with pytest.raises(StateDamaged) as caught:
        wireguard.configuration(tpm, key, credential)
    assert not any(
        form in repr(caught.value) for form in (repr(secret)[2:-1], secret.hex(), base64.b64encode(secret).decode())
    )


def test_tpm_that_is_gone_is_told(tpm: SoftTpm, key: TunnelKey, credential: VpnCredential) -> None:
    tpm.failure = TpmUnavailable("gone")
    with pytest.raises(TpmUnavailable):
        wireguard.configuration(tpm, key, credential)
