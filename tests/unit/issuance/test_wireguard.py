"""Tunnel credentials: one good key, both addresses, and a configuration without any private key."""

import configparser

import pytest

from attestd.errors import Refused
from attestd.issuance.wireguard import Gateway, check_keys, credential

KEY = bytes(range(1, 33))
GATEWAY = Gateway(
    "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", "vpn.fleet.example:51820", ("100.64.0.0/10", "fd00::/8")
)
ADDRESSES = ("100.64.0.16/32", "fd00:a77e:57d0::1/128")


@pytest.mark.parametrize("keys", [(), (("wireguard", KEY),)], ids=["none", "one"])
def test_a_device_shows_one_tunnel_key_or_none(keys: tuple[tuple[str, bytes], ...]) -> None:
    check_keys(keys)


@pytest.mark.parametrize(
    "keys",
    [
        (("wireguard", KEY[:31]),),
        (("wireguard", KEY + b"\0"),),
        (("wireguard", b""),),
        (("wireguard", bytes(32)),),
        (("wireguard", b"\x01" + bytes(31)),),
        (("WireGuard", KEY),),
        (("openvpn", KEY),),
        (("wireguard", KEY), ("wireguard2", KEY)),
    ],
    ids=["short", "long", "empty", "zero", "one", "spelling", "another kind", "two"],
)
def test_a_key_without_its_form_is_refused(keys: tuple[tuple[str, bytes], ...]) -> None:
    with pytest.raises(Refused, match="vpn-key-malformed"):
        check_keys(keys)


def test_a_credential_names_the_devices_own_key_its_addresses_and_the_gateway() -> None:
    made = credential(KEY, ADDRESSES, GATEWAY)
    (peer,) = made.peers
    assert (made.kind, made.public_key, made.addresses) == ("wireguard", KEY, ADDRESSES)
    assert (peer.public_key, peer.endpoint, peer.allowed_ips) == (
        GATEWAY.public_key,
        GATEWAY.endpoint,
        GATEWAY.allowed_ips,
    )


def test_c06_the_configuration_has_no_private_key_and_no_shared_one() -> None:
    text = credential(KEY, ADDRESSES, GATEWAY).config
    read = configparser.ConfigParser(delimiters=("=",))
    read.read_string(text)
    assert read.sections() == ["Interface", "Peer"]
    assert dict(read["Interface"]) == {"address": ", ".join(ADDRESSES)}
    assert set(read["Peer"]) == {"publickey", "endpoint", "allowedips", "persistentkeepalive"}
    assert read["Peer"]["publickey"] == GATEWAY.public_key
