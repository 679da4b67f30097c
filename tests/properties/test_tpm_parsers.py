"""Whatever the bytes: every parser returns a structure or raises Malformed, and nothing else."""

from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import tpm_structures as made
from attestd.tpm.attest import parse_attest
from attestd.tpm.devicepath import device_path_text
from attestd.tpm.errors import BadSignature, Malformed, MalformedCode
from attestd.tpm.eventdata import (
    parse_crtm_version,
    parse_firmware_blob,
    parse_gpt,
    parse_image_load,
    parse_ipl,
    parse_post_code,
    parse_separator,
    parse_text,
    parse_variable,
)
from attestd.tpm.eventlog import EventType, parse_event_log, replay
from attestd.tpm.ima import RuntimeList, parse_ima, template_hash_mismatches
from attestd.tpm.ima import replay as replay_ima
from attestd.tpm.measured import measured
from attestd.tpm.public import Public, parse_public, parse_public_area, public_key, spki
from attestd.tpm.signature import parse_pkcs1, parse_signature, verify
from attestd.tpm.signaturelist import parse_authority, parse_signature_lists
from tpm_structures import SHA1_ID, SHA256_ID, agile_event, agile_log, ima_entry, legacy_event, sized

Parser = Callable[[bytes], Any]

MESSAGE = b"message"


def use_public(data: bytes) -> Public:
    """Read a public area and use what was read, as the rooms behind do."""
    public = parse_public(data)
    assert sized(public.area) == data
    public_key(public)
    spki(public)
    return public


def use_log(data: bytes) -> None:
    """Read a log, replay it in every bank and look at every event's data by its type."""
    log = parse_event_log(data)
    for bank in log.algorithms:
        found = replay(log, bank)
        assert found.pcrs.keys() == found.initial.keys()
        for event in log.events:
            if bank in dict(event.digests):
                measured(event, bank)


def use_list(data: bytes) -> None:
    """Read a runtime list, check it and replay it under both conventions."""
    runtime = parse_ima(data)
    assert isinstance(runtime, RuntimeList)
    template_hash_mismatches(runtime)
    for padded in (True, False):
        assert len(list(replay_ima(runtime, "sha256", padded=padded))) == len(runtime.entries) + 1


def use_signature(data: bytes) -> None:
    """Read a signature and try it on both kinds of key."""
    signature = parse_signature(data)
    for area in (made.ecc_area(made.ecc_key(), scheme=made.NULL), made.rsa_area(made.rsa_key(), scheme=made.NULL)):
        try:
            verify(parse_public_area(area), signature, MESSAGE)
        except BadSignature:
            continue


PARSERS: dict[str, tuple[Parser, list[bytes]]] = {
    "public": (
        use_public,
        [
            sized(made.rsa_area(made.rsa_key())),
            sized(made.ecc_area(made.ecc_key())),
            sized(made.ek_area(made.ecc_key("secp384r1"))),
        ],
    ),
    "attest": (
        parse_attest,
        [
            made.quote([(SHA1_ID, [1, 2]), (SHA256_ID, range(24))]),
            made.attest_head(0x8017) + sized(b"name") + sized(b"qualified"),
            made.attest_head(0x8019) + bytes(20),
        ],
    ),
    "signature": (
        use_signature,
        [made.ecdsa_signature(made.ecc_key(), MESSAGE), made.rsa_signature(made.rsa_key(), MESSAGE)],
    ),
    "pkcs1": (lambda data: parse_pkcs1(data, digest="sha256"), [bytes(256)]),
    "eventlog": (
        use_log,
        [
            agile_log(
                agile_event(0, EventType.NO_ACTION, b"StartupLocality\0\3"),
                agile_event(4, EventType.IPL, b"grub_cmd: ls\0"),
                agile_event(1, EventType.EFI_VARIABLE_BOOT, bytes(16) + b"\1" + bytes(15) + b"a\0"),
                agile_event(7, EventType.SEPARATOR, bytes(4), digests=[(SHA256_ID, bytes(32))]),
            )
            + bytes(64),
            legacy_event(0, EventType.S_CRTM_VERSION, b"1\0") + legacy_event(7, EventType.SEPARATOR, bytes(4)),
        ],
    ),
    "ima": (
        use_list,
        [
            ima_entry() + ima_entry(b"/bin/ls", template=b"ima-sig", extra=(b"sig",)) + ima_entry(digest=bytes(20)),
            b"10 " + b"11" * 20 + b" ima-sig sha256:" + b"22" * 32 + b" /bin/sh 0302ab\n",
            b"10 " + b"11" * 20 + b" ima " + b"22" * 20 + b" /bin/sh\n",
        ],
    ),
    "variable": (parse_variable, [bytes(16) + b"\1" + bytes(7) + b"\2" + bytes(7) + b"a\0bc"]),
    "image": (parse_image_load, [bytes(24) + b"\x0a" + bytes(7) + b"\x01\x01\x06\x00\x00\x1f\x7f\xff\x04\x00"]),
    "gpt": (parse_gpt, [b"EFI PART" + bytes(76) + b"\x80" + bytes(7) + b"\1" + bytes(7) + bytes(128)]),
    "blob": (parse_firmware_blob, [bytes(16), b"\3abc" + bytes(16)]),
    "post-code": (parse_post_code, [b"ACPI DATA", bytes(16)]),
    "separator": (parse_separator, [bytes(4)]),
    "ipl": (parse_ipl, [b"grub_cmd: ls\0", "ro quiet\0".encode("utf-16-le")]),
    "crtm-version": (parse_crtm_version, ["1.0\0".encode("utf-16-le"), bytes(16)]),
    "text": (parse_text, [b"Exit Boot Services Invocation\0"]),
    "device-path": (device_path_text, [b"\x04\x04\x08\x00a\0\0\0\x7f\xff\x04\x00", b"\x04\x01\x2a\x00" + bytes(38)]),
    "signature-lists": (
        parse_signature_lists,
        [bytes(16) + b"\x4c\0\0\0\0\0\0\0\x30\0\0\0" + bytes(48)],
    ),
    "authority": (parse_authority, [bytes(20), b"\x30\x82\0\x04abcd"]),
}

INTERESTING = [0, 1, 3, 4, 0x7F, 0x80, 0xFE, 0xFF]


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A good structure with bytes changed, cut, doubled, or put in."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["flip", "set", "cut", "insert", "double", "ones"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "set" if data:
                data[at] = draw(st.sampled_from(INTERESTING))
            case "cut":
                del data[at:]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "double":
                data += data[at:]
            case "ones":
                data[at : at + 4] = b"\xff" * 4
    return bytes(data)


CODES = {None, *get_args(MalformedCode)}


def refusal(parser: Parser, data: bytes) -> str | None:
    """Return the code with which parser refuses data, or None; any other exception goes through and fails the test."""
    try:
        parser(data)
    except Malformed as error:
        return error.code
    return None


@pytest.mark.parametrize("name", PARSERS)
def test_good_structures_are_read(name):
    parser, seeds = PARSERS[name]

    for seed in seeds:
        parser(seed)

    assert seeds


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.binary(max_size=600))
@example(data=b"")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_arbitrary_bytes_are_read_or_refused(name, data):
    assert refusal(PARSERS[name][0], data) in CODES


@pytest.mark.parametrize("name", PARSERS)
@given(choice=st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_structures_are_read_or_refused(name, choice):
    parser, seeds = PARSERS[name]

    assert refusal(parser, choice.draw(damaged(seeds))) in CODES


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_changed_public_area_has_another_name(data):
    area = made.ecc_area(made.ecc_key())
    changed = data.draw(damaged([area]))
    try:
        public = parse_public_area(changed)
    except Malformed:
        return

    assert (public.name == made.name_of(area)) is (changed == area)


@given(
    events=st.lists(
        st.tuples(st.integers(0, 23), st.sampled_from(list(EventType)), st.binary(max_size=40)), max_size=12
    ),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_the_order_of_digests_inside_an_event_does_not_matter(events, order):
    usual, shuffled = [], []
    for pcr, kind, data in events:
        digests = [(SHA1_ID, bytes((pcr,)) * 20), (SHA256_ID, bytes((pcr,)) * 32)]
        usual.append(agile_event(pcr, kind, data, digests=digests))
        order.shuffle(digests)
        shuffled.append(agile_event(pcr, kind, data, digests=digests))

    assert parse_event_log(agile_log(*usual)) == parse_event_log(agile_log(*shuffled))


@given(banks=st.lists(st.tuples(st.sampled_from([SHA1_ID, SHA256_ID]), st.sets(st.integers(0, 23))), max_size=5))
@settings(max_examples=60, deadline=None)
def test_selections_are_read_as_they_were_written(banks):
    attest = parse_attest(made.quote(banks))

    names = {SHA1_ID: "sha1", SHA256_ID: "sha256"}
    selections = attest.body.selections  # type: ignore[union-attr]
    assert [(found.algorithm, found.pcrs) for found in selections] == [
        (names[bank], tuple(sorted(pcrs))) for bank, pcrs in banks
    ]
