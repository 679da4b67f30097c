from concurrent.futures import ThreadPoolExecutor

import pytest

from attestd.store import Store, StoreConflict, VpnKeyInUse, credentials, devices
from attestd.store.credentials import CertificateRecord, CrlRecord, GrantRecord, Redemption, VpnKeyRecord
from store_records import DAY, device_name, enrol


def grant(number: int = 1, **fields: object) -> GrantRecord:
    values = {
        "grant_id": b"g" * 16,
        "device_id": device_name(number),
        "body": b"cbor",
        "minted_at": 1,
        "expires_at": 60,
    }
    return GrantRecord(**{**values, **fields})  # type: ignore[arg-type]


def certificate(serial: str, number: int = 1, **fields: object) -> CertificateRecord:
    values = {"serial": serial, "device_id": device_name(number), "not_before": 0, "not_after": DAY, "der": b"der"}
    return CertificateRecord(**{**values, **fields})  # type: ignore[arg-type]


def key(public_key: bytes, number: int = 1, kind: str = "wireguard") -> VpnKeyRecord:
    return VpnKeyRecord(kind, public_key, device_name(number), 1)


# --- Grants -------------------------------------------------------------------------------------------------------------


def test_a_grant_is_redeemed_for_one_certificate(store: Store) -> None:
    enrol(store, 1)
    with store.write() as connection:
        credentials.insert_grant(connection, grant())
        outcome = credentials.redeem_grant(connection, b"g" * 16, device_name(1), now=59, serial="ab")
        assert outcome is Redemption.REDEEMED
        assert credentials.load_grant(connection, b"g" * 16) == grant(redeemed_at=59, serial="ab")


def test_c02_of_many_that_redeem_one_grant_at_once_exactly_one_wins(store: Store) -> None:
    enrol(store, 1)
    with store.write() as connection:
        credentials.insert_grant(connection, grant())

    def attempt(number: int) -> Redemption:
        with store.write() as connection:
            return credentials.redeem_grant(connection, b"g" * 16, device_name(1), now=5, serial=f"{number:x}")

    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(attempt, range(8)))
    assert outcomes == [Redemption.REDEEMED] + [Redemption.USED] * 7


def test_c02_a_grant_is_not_redeemed_late_twice_or_by_another_device(store: Store) -> None:
    enrol(store, 1, 2)
    with store.write() as connection:
        credentials.insert_grant(connection, grant())

        def redeem(number: int, now: int, grant_id: bytes = b"g" * 16) -> Redemption:
            return credentials.redeem_grant(connection, grant_id, device_name(number), now=now, serial="1")

        assert redeem(2, 5) is Redemption.UNKNOWN
        assert redeem(1, 5, b"h" * 16) is Redemption.UNKNOWN
        assert redeem(1, 60) is Redemption.EXPIRED
        assert redeem(1, 59) is Redemption.REDEEMED
        assert redeem(1, 59) is Redemption.USED
        assert redeem(1, 99) is Redemption.USED


def test_a_grants_id_is_used_once(store: Store) -> None:
    enrol(store, 1)
    with store.write() as connection:
        credentials.insert_grant(connection, grant())
    with pytest.raises(StoreConflict), store.write() as connection:
        credentials.insert_grant(connection, grant(body=b"another"))


# --- Certificates and lists ---------------------------------------------------------------------------------------------


def test_a_certificate_becomes_its_devices_current_one(store: Store) -> None:
    enrol(store, 1, 2)
    with store.write() as connection:
        credentials.insert_certificate(connection, certificate("a"))
        credentials.insert_certificate(connection, certificate("b", not_before=5, not_after=DAY + 5))
        current = devices.load_device(connection, device_name(1))
        assert current is not None
        assert (current.device.certificate_serial, current.device.certificate_not_after) == ("b", DAY + 5)
        assert [entry.serial for entry in credentials.list_certificates(connection, device_name(1))] == ["b", "a"]
        assert credentials.load_certificate(connection, "a") == certificate("a")
        assert credentials.load_certificate(connection, "A") is None


def test_a_serial_number_is_issued_once(store: Store) -> None:
    enrol(store, 1, 2)
    with store.write() as connection:
        credentials.insert_certificate(connection, certificate("a"))
    with pytest.raises(StoreConflict), store.write() as connection:
        credentials.insert_certificate(connection, certificate("a", 2))


def test_revoking_takes_all_certificates_that_are_still_valid(store: Store) -> None:
    enrol(store, 1, 2)
    with store.write() as connection:
        for record in (certificate("1", not_after=100), certificate("2"), certificate("3"), certificate("4", 2)):
            credentials.insert_certificate(connection, record)
        revoked = credentials.revoke_certificates(connection, device_name(1), now=100, reason="keyCompromise")
        assert revoked == ("2", "3")
        assert credentials.revoke_certificates(connection, device_name(1), now=101, reason="superseded") == ()
        device = devices.load_device(connection, device_name(1))
        assert device is not None
        assert device.device.certificate_serial is None
        listed = credentials.revoked_certificates(connection, 200)
        assert [(entry.serial, entry.revoked_at, entry.reason) for entry in listed] == [
            ("2", 100, "keyCompromise"),
            ("3", 100, "keyCompromise"),
        ]
        assert credentials.revoked_certificates(connection, DAY) == ()


def test_revocation_lists_count_up(store: Store) -> None:
    with store.write() as connection:
        assert credentials.latest_crl(connection) is None
        for number in (1, 2, 10):
            credentials.insert_crl(connection, CrlRecord(number, b"crl%d" % number, number, number + 5))
        assert credentials.latest_crl(connection) == CrlRecord(10, b"crl10", 10, 15)
    with pytest.raises(StoreConflict), store.write() as connection:
        credentials.insert_crl(connection, CrlRecord(10, b"another", 1, 2))


# --- VPN keys -----------------------------------------------------------------------------------------------------------


def test_a_vpn_key_is_never_issued_twice_not_even_after_it_was_withdrawn(store: Store) -> None:
    enrol(store, 1, 2)
    with store.write() as connection:
        credentials.insert_vpn_key(connection, key(b"k" * 32))
        assert credentials.withdraw_vpn_keys(connection, device_name(1), now=7) == (
            VpnKeyRecord("wireguard", b"k" * 32, device_name(1), 1, 7),
        )
        assert credentials.withdraw_vpn_keys(connection, device_name(1), now=8) == ()
    for number in (1, 2):
        with pytest.raises(VpnKeyInUse), store.write() as connection:
            credentials.insert_vpn_key(connection, key(b"k" * 32, number))
    with store.read() as connection:
        known = credentials.load_vpn_key(connection, "wireguard", b"k" * 32)
        assert known is not None
        assert known.device_id == device_name(1)
        assert credentials.load_vpn_key(connection, "ipsec", b"k" * 32) is None


def test_active_vpn_keys_are_those_not_withdrawn(store: Store) -> None:
    enrol(store, 1, 2)
    with store.write() as connection:
        for record in (key(b"a"), key(b"b", kind="ipsec"), key(b"c", 2)):
            credentials.insert_vpn_key(connection, record)
        credentials.withdraw_vpn_keys(connection, device_name(2), now=3)
        assert {entry.public_key for entry in credentials.active_vpn_keys(connection)} == {b"a", b"b"}
        assert credentials.active_vpn_keys(connection, device_name(2)) == ()
        assert [entry.kind for entry in credentials.active_vpn_keys(connection, device_name(1))] == [
            "ipsec",
            "wireguard",
        ]


def test_a_serial_number_has_one_spelling() -> None:
    assert credentials.serial_text(0x0ABC) == "abc"
