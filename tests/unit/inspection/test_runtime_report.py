"""What a report on a runtime list says besides its entries: measured buffers, signing keys, forms of the file."""

import base64
import hashlib

import pytest

from attestd.inspection.runtime import inspect_ima
from tpm_structures import ima_entry


def buffer_entry(name: bytes, data: bytes, *, digest: bytes | None = None) -> bytes:
    measured = hashlib.sha256(data).digest() if digest is None else digest
    return ima_entry(name, template=b"ima-buf", file_digest=measured, extra=(data,))


def test_what_the_kernel_measured_besides_files_is_told():
    report = inspect_ima(buffer_entry(b"kernel_version", b"6.12.0") + ima_entry()).document()

    assert report["buffers"] == [{"entry": 0, "name": "kernel_version", "text": "6.12.0", "digest_matches_data": True}]


def test_a_buffer_that_is_not_what_was_measured_is_told():
    (found,) = inspect_ima(buffer_entry(b"selinux-state", b"enforcing=1;", digest=bytes(32))).document()["buffers"]

    assert found["digest_matches_data"] is False


def test_a_policy_that_is_measured_by_its_hash_matches():
    digest = hashlib.sha256(b"policy").digest()

    (found,) = inspect_ima(buffer_entry(b"selinux-policy-hash", digest, digest=digest)).document()["buffers"]

    assert found["digest_matches_data"] is True


def test_signatures_are_counted_by_the_key_that_they_name():
    signature = bytes.fromhex("030204f3452d230100") + bytes(256)
    signed = ima_entry(template=b"ima-sig", extra=(signature,))

    report = inspect_ima(signed + signed + ima_entry(template=b"ima-sig", extra=(b"",))).document()

    assert report["signing_keys"] == {"f3452d23": 2}


LINE = f"10 {hashlib.sha1(ima_entry()[38:]).hexdigest()} ima-ng sha256:{'11' * 32} /bin/sh\n".encode()


@pytest.mark.parametrize(
    "data", [ima_entry() + ima_entry(b"/bin/ls"), LINE, b" 9" + LINE[2:]], ids=["binary", "text", "blank"]
)
@pytest.mark.parametrize(
    "armour",
    [
        base64.encodebytes,
        base64.urlsafe_b64encode,
        lambda data: base64.b64encode(data).rstrip(b"="),
        lambda data: data.hex().encode(),
        lambda data: data.hex("\n", 32).upper().encode() + b"\r\n",
    ],
    ids=["lines", "url", "unpadded", "hex", "hex-lines"],
)
def test_a_list_in_base64_or_hexadecimal_is_the_same_list(data, armour):
    assert inspect_ima(armour(data)).document() == inspect_ima(data).document()


@pytest.mark.parametrize("bank", ["sha256", "sha384", "sha512"])
def test_a_list_of_one_bank_replays_to_the_same_registers(bank):
    data = ima_entry()
    size = len(data) - 38
    template = data[38:]
    other = data[:4] + hashlib.new(bank, template).digest() + data[24:38] + template

    found, wanted = inspect_ima(other).document(), inspect_ima(data).document()

    assert (size > 0, found["template_hash_algorithm"], found["outcome"]) == (True, bank, "parsed")
    assert (found["pcrs"], found["pcrs_padded"]) == (wanted["pcrs"], wanted["pcrs_padded"])


def test_a_bank_whose_algorithm_the_kernel_lacks_has_its_registers():
    report = inspect_ima(ima_entry() + ima_entry(digest=bytes(20))).document()
    value = bytes(48)
    for digest in (hashlib.sha1(ima_entry()[38:]).digest() + bytes(28), b"\xff" * 48):
        value = hashlib.sha384(value + digest).digest()

    assert report["pcrs_unhashed"]["sha384"]["10"] == value.hex()
    assert report["pcrs_padded"]["sha384"]["10"] != value.hex()


def test_without_a_violation_both_ways_of_padding_are_one():
    report = inspect_ima(ima_entry()).document()

    assert report["pcrs_unhashed"] == report["pcrs_padded"]
