"""From an affirming result to credentials, inside the transaction that stores the result.

prepare → grant → redeem → issue (docs/adr): the grant is stored, redeemed by one statement that only one caller can win, and
spent. If anything here fails, nothing of the proof is stored either.
"""

import hashlib
from dataclasses import dataclass

from sqlalchemy import Connection

from attestd.appraisal.result import AttestationResult
from attestd.errors import Refused
from attestd.issuance.mint import Subject, mint
from attestd.issuance.wireguard import credential
from attestd.lifecycle.table import State
from attestd.protocol.messages import WIREGUARD, VpnCredential
from attestd.protocol.reasons import Reason
from attestd.services.context import Verifier
from attestd.store import addresses, credentials, devices
from attestd.store.credentials import CertificateRecord, GrantRecord, Redemption, VpnKeyRecord
from attestd.store.errors import AddressesExhausted, NameTaken, VpnKeyInUse
from attestd_pki.errors import PkiError
from attestd_pki.grant import Grant
from attestd_pki.issuer import prepare, redeem


@dataclass(frozen=True, slots=True)
class _Ledger:
    """The store as the memory of used grants, within one transaction."""

    connection: Connection
    device_id: str
    serial: int
    now: int

    def claim(self, grant_id: bytes, digest: bytes) -> bool:
        """Record the grant as used; True for the first caller only. *Raises* PkiError for a grant that was not stored so."""
        kept = credentials.load_grant(self.connection, grant_id)
        if kept is None or hashlib.sha256(kept.body).digest() != digest:
            raise PkiError("grant-other", "no such grant was minted here")
        serial = credentials.serial_text(self.serial)
        outcome = credentials.redeem_grant(self.connection, grant_id, self.device_id, now=self.now, serial=serial)
        return outcome is Redemption.REDEEMED


def issue_certificate(
    verifier: Verifier, connection: Connection, result: AttestationResult, *, subject: Subject, now: int
) -> tuple[bytes, ...]:
    """Return a new certificate chain (DER, the device's own first) for what `result` affirms.

    Assumes a write transaction in which the device's row exists. Raises `Refused` (evidence-refused, grant-*).
    """
    grant = mint(
        result,
        subject,
        names_of=verifier.names,
        now_s=now // 1000,
        lifetime_s=verifier.timing.certificate,
        grant_id=verifier.random(16),
    )
    credentials.insert_grant(
        connection,
        GrantRecord(grant.grant_id, grant.device_id, grant.encode(), now, grant.expires_at * 1000),
    )
    return redeem_certificate(verifier, connection, grant, now=now)


def redeem_certificate(verifier: Verifier, connection: Connection, grant: Grant, *, now: int) -> tuple[bytes, ...]:
    """Return the certificate chain for a stored grant, which is used up by this.

    Raises `Refused` (grant-used, grant-expired, grant-invalid for whatever else the issuer refuses).
    """
    if devices.state_of(connection, grant.device_id) != State.TRUSTED:
        raise Refused(Reason.GRANT_INVALID, "the device's trust has ended since the grant was minted")
    serial = int.from_bytes(verifier.random(16), "big") | 1 << 127
    try:
        redeemed = redeem(grant, now=now // 1000, ledger=_Ledger(connection, grant.device_id, serial, now))
        prepared = prepare(grant, issuer=verifier.issuer.identity, serial=serial, crl_url=verifier.crl_url)
        issued = verifier.issuer.issue(prepared, redeemed, now=now // 1000)
    except PkiError as error:
        raise Refused(_REASONS.get(error.code, Reason.GRANT_INVALID), str(error)) from None
    credentials.insert_certificate(
        connection,
        CertificateRecord(
            credentials.serial_text(serial),
            grant.device_id,
            grant.not_before * 1000,
            grant.not_after * 1000,
            issued.der,
        ),
    )
    return (issued.der, *issued.chain)


_REASONS = {"grant-used": Reason.GRANT_USED, "grant-expired": Reason.GRANT_EXPIRED}


def issue_vpn(
    verifier: Verifier, connection: Connection, subject: Subject, *, name: str, now: int
) -> tuple[VpnCredential, ...]:
    """Return the tunnel credentials for the keys that the proof bound; none where the service has no gateway.

    Raises `Refused` (vpn-key-in-use, addresses-exhausted, inventory-claimed where another device still has the name).
    """
    made: list[VpnCredential] = []
    try:
        for kind, key in subject.vpn_keys:
            credentials.insert_vpn_key(connection, VpnKeyRecord(kind, key, subject.device_id, now))
            if kind == WIREGUARD and verifier.tunnel is not None:
                made.append(_wireguard(verifier, connection, subject.device_id, key, name, now))
    except VpnKeyInUse:
        raise Refused(Reason.VPN_KEY_IN_USE) from None
    except NameTaken as error:
        raise Refused(Reason.INVENTORY_CLAIMED, str(error)) from None
    except AddressesExhausted as error:
        raise Refused(Reason.ADDRESSES_EXHAUSTED, str(error)) from None
    return tuple(made)


def _wireguard(
    verifier: Verifier, connection: Connection, device_id: str, key: bytes, name: str, now: int
) -> VpnCredential:
    tunnel = verifier.tunnel
    assert tunnel is not None
    held = addresses.allocate_address(
        connection, device_id, pool=tunnel.pool, name=name, now=now, cooldown=tunnel.cool_down_ms
    )
    ipv4, ipv6 = held.addresses
    return credential(key, (f"{ipv4}/32", f"{ipv6}/128"), tunnel.gateway)


def withdraw(connection: Connection, device_id: str, *, now: int, reason: str) -> bool:
    """Revoke the device's certificates and withdraw its VPN keys; return whether it had any certificate.

    The caller publishes a new revocation list after the commit. `reason` is an X.509 name (privilegeWithdrawn, …).
    """
    credentials.withdraw_vpn_keys(connection, device_id, now=now)
    return bool(credentials.revoke_certificates(connection, device_id, now=now, reason=reason))
