"""The device's tunnel key: made here, at rest only as a blob that this TPM alone opens, in the clear only on request.

A TPM has no X25519, so the private key is software's: it is sealed at once, and its clear form exists in this process
while a configuration is rendered, and in what the caller does with the result. It is never stored, logged, sent or put
into an error (C06, T09). Assumes that the kernel protects a process's memory from other users.

The configuration is built from the checked fields of the credential and not from text of the verifier: wg-quick(8)
runs the commands that it finds in its file, and a verifier must not be able to run any.
"""

import base64
import binascii
import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from attestd.protocol.messages import WIREGUARD, VpnCredential, VpnPeer
from attestd_agent.errors import StateDamaged
from attestd_agent.tpm import KeyBlob, Tpm

KEY_SIZE: Final = 32
# A name, an IPv4 address or an IPv6 address in brackets, and a port (wg(8), "Endpoint").
_ENDPOINT: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class TunnelKey:
    """An X25519 key pair: the public key (32 bytes), and the private key sealed to this TPM."""

    public: bytes
    sealed: KeyBlob

    @property
    def offer(self) -> tuple[tuple[str, bytes], ...]:
        """Return the key as the protocol's `vpn_keys`."""
        return ((WIREGUARD, self.public),)


def new_key(tpm: Tpm) -> TunnelKey:
    """Return a new key pair, sealed. *Raises* TpmUnavailable, TpmRefused."""
    private = X25519PrivateKey.generate()
    return TunnelKey(private.public_key().public_bytes_raw(), tpm.seal(private.private_bytes_raw()))


def configuration(tpm: Tpm, key: TunnelKey, credential: VpnCredential) -> str:
    """Return the complete configuration for wg-quick(8), with the private key in it.

    *Raises* StateDamaged where the credential is for another key or holds what is no address, name or key;
    TpmUnavailable, TpmRefused.
    """
    if credential.kind != WIREGUARD or credential.public_key != key.public:
        raise StateDamaged("the stored tunnel credential is for another key: enrol again")
    body = _interface(credential) + "".join(_peer(peer) for peer in credential.peers)
    private = tpm.unseal(key.sealed)
    if (
        len(private) != KEY_SIZE
        or X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw() != key.public
    ):
        raise StateDamaged("the sealed tunnel key is not the one of the credential: enrol again")
    return f"[Interface]\nPrivateKey = {base64.b64encode(private).decode('ascii')}\n{body}"


def public_configuration(credential: VpnCredential) -> str:
    """Return the same without the private key, for people. *Raises* StateDamaged."""
    return "[Interface]\n" + _interface(credential) + "".join(_peer(peer) for peer in credential.peers)


def _interface(credential: VpnCredential) -> str:
    addresses = [_checked(ipaddress.ip_interface, address) for address in credential.addresses]
    if not addresses:
        raise StateDamaged("the tunnel credential has no address")
    return f"Address = {', '.join(addresses)}\n"


def _peer(peer: VpnPeer) -> str:
    networks = [_checked(ipaddress.ip_network, network) for network in peer.allowed_ips]
    lines = ["", "[Peer]", f"PublicKey = {_key(peer.public_key)}", f"Endpoint = {_endpoint(peer.endpoint)}"]
    lines.append(f"AllowedIPs = {', '.join(networks)}")
    if peer.persistent_keepalive:
        lines.append(f"PersistentKeepalive = {int(peer.persistent_keepalive)}")
    return "\n".join(lines) + "\n"


def _checked(kind: type[ipaddress.IPv4Interface] | object, text: str) -> str:
    try:
        return str(kind(text))  # type: ignore[operator]
    except ValueError:
        raise StateDamaged("the tunnel credential holds what is no address") from None


def _key(text: str) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != KEY_SIZE:
        raise StateDamaged("the tunnel credential holds what is no WireGuard key")
    return base64.b64encode(raw).decode("ascii")


def _endpoint(text: str) -> str:
    match = _ENDPOINT.fullmatch(text)
    if match is None or not 0 < int(match[1]) <= 65535:
        raise StateDamaged("the tunnel credential holds what is no endpoint")
    return text
