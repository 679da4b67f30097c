"""What is published for everybody: revocation lists that stay fresh and cost nobody's question a write; results' key; health."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from attestd.errors import Refused
from attestd.services import publish
from attestd.services.publish import check_database, current_crl, refresh_crl, renew_crl, result_jwk
from attestd.store import credentials
from attestd.store.credentials import CertificateRecord
from attestd_pki.crl import verify_crl
from attestd_pki.errors import PkiError
from attestd_pki.revocation import RevocationList
from store_records import device_name, enrol
from world import World

pytest_plugins = ("attacks.fixtures_pct",)


@pytest.fixture
def world(sqlite_url: str) -> Iterator[World]:
    """A verifier that does not listen."""
    made = World(sqlite_url)
    yield made
    made.verifier.store.close()


def read(world: World, der: bytes) -> RevocationList:
    return verify_crl(der, issuer=world.verifier.issuer.identity, now=world.now_s)


def lists(world: World) -> int:
    with world.verifier.store.read() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM crl").scalar_one())


def test_the_first_list_is_made_when_somebody_asks(world: World) -> None:
    renew_crl(world.verifier)
    assert lists(world) == 0
    assert read(world, current_crl(world.verifier)).entries == ()
    assert lists(world) == 1


def test_t04_asking_again_writes_nothing_however_old_the_list_is(world: World) -> None:
    first = current_crl(world.verifier)
    world.pass_time(world.verifier.timing.crl - 5)
    assert current_crl(world.verifier) == first
    assert lists(world) == 1


def test_the_sweep_replaces_a_list_that_has_passed_half_its_life(world: World) -> None:
    current_crl(world.verifier)
    world.pass_time(world.verifier.timing.crl / 2 - 60)
    renew_crl(world.verifier)
    assert lists(world) == 1
    world.pass_time(61)
    renew_crl(world.verifier)
    assert lists(world) == 2
    assert read(world, current_crl(world.verifier)).number == 2


def test_a_list_that_has_ended_is_replaced_by_whoever_asks(world: World) -> None:
    current_crl(world.verifier)
    world.pass_time(world.verifier.timing.crl + 1)
    assert read(world, current_crl(world.verifier)).number == 2


def revoke(world: World, *, at: int) -> int:
    """Put a certificate into the record that was revoked at this time (milliseconds), and return its serial number."""
    serial = 1 << 127 | 7
    enrol(world.verifier.store, 1)
    text, end = credentials.serial_text(serial), world.now() + 7_200_000
    with world.verifier.store.write() as connection:
        record = CertificateRecord(text, device_name(1), 0, end, b"der", at, "superseded")
        credentials.insert_certificate(connection, record)
    return serial


@pytest.mark.parametrize("ahead", [-10, 0, 1, 5, 3600])
def test_p04_what_a_replica_with_a_faster_clock_revoked_is_listed_at_once(world: World, ahead: int) -> None:
    serial = revoke(world, at=world.now() + ahead * 1000)
    told = read(world, refresh_crl(world.verifier))
    assert [entry.serial for entry in told.entries] == [serial]
    assert told.entries[0].revoked_at <= told.this_update


def test_a_list_that_cannot_be_made_is_an_error_of_the_verifier_and_not_a_crash(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> bytes:
        raise PkiError("issuer-bad-signature", "the backend's signature does not verify")

    monkeypatch.setattr(publish, "build_crl", broken)
    with pytest.raises(Refused, match="internal"):
        refresh_crl(world.verifier)
    assert lists(world) == 0


def test_the_key_of_results_is_published_without_its_private_half(world: World) -> None:
    assert set(result_jwk(world.verifier)) == {"kty", "crv", "alg", "use", "kid", "x"}


def test_a_database_that_answers_is_healthy(world: World) -> None:
    check_database(world.verifier)


def test_a_database_of_another_version_is_not(world: World) -> None:
    with world.verifier.store.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'another'")
    with pytest.raises(Refused, match="server-busy"):
        check_database(world.verifier)


def test_a_database_that_is_away_is_not(tmp_path: Path, world: World) -> None:
    world.verifier.store.close()
    (tmp_path / "attestd.db").unlink()
    with pytest.raises(Refused, match="server-busy"):
        check_database(world.verifier)
