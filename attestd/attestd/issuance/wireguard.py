"""WireGuard credentials: the device's own key, the addresses that the server allocates, the configuration of both.

The private key is made on the device and never crosses the wire, so the configuration here has none; the agent adds it from
its TPM. Assumes a key that the proof bound. Pure text and numbers: no daemon is spoken to.
"""

from dataclasses import dataclass

from attestd.errors import Refused
from attestd.protocol.messages import WIREGUARD, VpnCredential, VpnPeer
from attestd.protocol.reasons import Reason

KEY_BYTES = 32
_LOW_ORDER = frozenset({bytes(32), b"\x01" + bytes(31)})
"""Points that make every shared secret zero or guessable (RFC 7748, 6.1): the two that a broken client would send."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """What a device must know of the gateway: base64 public key, `host:port`, the networks behind it."""

    public_key: str
    endpoint: str
    allowed_ips: tuple[str, ...]
    persistent_keepalive: int = 25


def check_keys(vpn_keys: tuple[tuple[str, bytes], ...]) -> None:
    """Check that the keys are one WireGuard key at most, of 32 bytes. Raises `Refused` (vpn-key-malformed)."""
    for kind, key in vpn_keys:
        if kind != WIREGUARD or len(key) != KEY_BYTES or key in _LOW_ORDER:
            raise Refused(Reason.VPN_KEY_MALFORMED, f"{kind[:16]}, {len(key)} bytes")


def credential(key: bytes, addresses: tuple[str, ...], gateway: Gateway) -> VpnCredential:
    """Return what the device needs for its tunnel. `addresses` are in CIDR form, one IPv4 /32 and one IPv6 /128."""
    peer = VpnPeer(gateway.public_key, gateway.endpoint, gateway.allowed_ips, gateway.persistent_keepalive)
    return VpnCredential(WIREGUARD, key, addresses, (peer,), _configuration(addresses, gateway))


def _configuration(addresses: tuple[str, ...], gateway: Gateway) -> str:
    return (
        f"[Interface]\nAddress = {', '.join(addresses)}\n\n"
        f"[Peer]\nPublicKey = {gateway.public_key}\nEndpoint = {gateway.endpoint}\n"
        f"AllowedIPs = {', '.join(gateway.allowed_ips)}\nPersistentKeepalive = {gateway.persistent_keepalive}\n"
    )
