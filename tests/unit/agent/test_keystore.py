"""The state of an agent survives power cuts and damage, and is nobody else's business."""

import json
import logging
import os
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestd_agent import keystore
from attestd_agent.keystore import AgentState, Keystore, KeystoreRefused, UnreadableState, decode_state, encode_state
from attestd_agent.tpm import KeyBlob

FULL = AgentState(
    server="https://verifier.example",
    device="d-1",
    interval=60,
    next_nonce=b"n" * 32,
    deadline=1_800_000_000,
    certificate_chain="-----BEGIN CERTIFICATE-----\n",
    device_key=KeyBlob(b"\x00\x01p", b"\x00\x01s"),
    wireguard_key=KeyBlob(b"\x00\x01w", b"\x00\x01x"),
    wireguard_public="q" * 43 + "=",
    vpn_credential={"kind": "wireguard", "peers": [{"endpoint": "gateway.example:51820"}]},
    last_log_digest=b"l" * 32,
    last_pcr_digest=b"p" * 32,
    reset_count=3,
    ima_offset=4096,
)


@pytest.fixture
def store(tmp_path: Path) -> Keystore:
    return Keystore(tmp_path / "state")


def test_state_that_was_saved_is_loaded_again(store: Keystore) -> None:
    store.save(FULL)
    assert Keystore(store.directory).load() == FULL


def test_full_state_of_this_test_sets_every_field() -> None:
    assert [item.name for item in fields(AgentState) if item.name != "version" and not getattr(FULL, item.name)] == []


def test_new_device_has_no_state(store: Keystore) -> None:
    assert store.load() is None


def test_directory_and_file_are_for_their_owner_alone(store: Keystore) -> None:
    old = os.umask(0)
    try:
        store.save(FULL)
        fresh = Keystore(store.directory / "deeper")
    finally:
        os.umask(old)
    assert fresh.directory.stat().st_mode & 0o777 == 0o700
    assert store.directory.stat().st_mode & 0o777 == 0o700
    assert (store.directory / "state.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_directory_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(KeystoreRefused, match="chmod 0700") as refused:
        Keystore(tmp_path)
    assert refused.value.code == "unsafe_directory"


def test_directory_that_others_can_only_read_is_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    Keystore(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_link_instead_of_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(KeystoreRefused) as refused:
        Keystore(tmp_path / "link")
    assert refused.value.code == "unsafe_directory"


def test_link_instead_of_the_file_is_refused(store: Keystore, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(encode_state(FULL))
    (store.directory / "state.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeystoreRefused) as refused:
        store.load()
    assert refused.value.code == "unsafe_file"


def test_pipe_instead_of_the_file_is_refused_without_waiting(store: Keystore) -> None:
    os.mkfifo(store.directory / "state.json", 0o600)
    with pytest.raises(KeystoreRefused) as refused:
        store.load()
    assert refused.value.code == "unsafe_file"


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\x00" * 512,
        b"{}",
        b"[]",
        encode_state(FULL)[:-20],
        encode_state(FULL).replace(b'"interval": 60', b'"interval": true'),
        encode_state(FULL).replace(b'"interval": 60', b'"interval": "60"'),
        encode_state(FULL).replace(b'"interval": 60', b'"interval": 60, "extra": 1'),
        encode_state(FULL).replace(b'"private"', b'"secret"', 1),
        b"[" * 100_000,
        b" " * (keystore.MAX_STATE + 1),
    ],
    ids=["empty", "zeros", "no-fields", "list", "cut", "bool", "text", "extra", "blob", "deep", "long"],
)
def test_unreadable_file_is_kept_aside_and_the_device_starts_over(
    store: Keystore, caplog: pytest.LogCaptureFixture, damaged: bytes
) -> None:
    (store.directory / "state.json").write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        assert store.load() is None
    assert (store.directory / "state.json.unreadable").read_bytes() == damaged
    assert "enrols again" in caplog.text
    store.save(FULL)
    assert store.load() == FULL


def test_state_of_another_version_is_refused_and_left_alone(store: Keystore) -> None:
    document = json.loads(encode_state(FULL)) | {"version": 2, "unheard_of": 1}
    (store.directory / "state.json").write_text(json.dumps(document))
    with pytest.raises(KeystoreRefused, match="version 2") as refused:
        store.load()
    assert refused.value.code == "unknown_version"
    assert json.loads((store.directory / "state.json").read_text()) == document


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_interrupted_save_leaves_the_old_state(store: Keystore, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    store.save(FULL)

    def fail(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if step == "write":
            patch.setattr(keystore, "_write_file", fail)
        else:
            patch.setattr(f"os.{step}", fail)
        with pytest.raises(KeystoreRefused) as refused:
            store.save(replace(FULL, interval=61))
    assert refused.value.code == "no_space"
    assert store.load() == FULL
    assert [path.name for path in store.directory.iterdir()] == ["state.json"]


def test_file_left_by_a_power_cut_does_not_stop_the_next_save(store: Keystore) -> None:
    (store.directory / ".state.json.new").write_bytes(b"half")
    store.save(FULL)
    assert [path.name for path in store.directory.iterdir()] == ["state.json"]


def test_forgetting_removes_the_state(store: Keystore) -> None:
    store.save(FULL)
    store.forget()
    assert list(store.directory.iterdir()) == []


def test_c06_credential_does_not_show_when_a_state_is_printed() -> None:
    assert "gateway.example" not in repr(FULL)


def test_state_on_disk_holds_no_private_key_in_the_clear() -> None:
    """The only keys are TPM blobs; a field that could hold another key would have to be added here."""
    assert {item.name for item in fields(AgentState) if "key" in item.name} == {"device_key", "wireguard_key"}


@given(st.binary(max_size=300))
def test_no_bytes_make_decoding_fail_otherwise_than_named(data: bytes) -> None:
    with pytest.raises((UnreadableState, KeystoreRefused)):
        decode_state(data)


@given(
    st.builds(
        AgentState,
        server=st.text(),
        next_nonce=st.binary(),
        reset_count=st.integers(),
        device_key=st.none() | st.builds(KeyBlob, st.binary(), st.binary()),
        vpn_credential=st.dictionaries(st.text(), st.text() | st.integers() | st.none()),
    )
)
def test_every_state_survives_encoding(state: AgentState) -> None:
    assert decode_state(encode_state(state)) == state
