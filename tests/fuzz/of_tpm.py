"""What a TPM, a firmware and a kernel wrote, and a device sent: structures, boot logs, runtime lists, and the facts in them."""

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import Any, Final, Literal

import cert_forge
import event_logs
import tpm_structures as made
from attestd.appraisal.revocation import revoked_digests
from attestd.errors import Refused
from attestd.evidence.ak import check_attestation_key, check_device_key
from attestd.evidence.boot import boot_facts
from attestd.evidence.challenge import Challenger, issued_at
from attestd.evidence.ek import EkPolicy, identify, read_endorsement_key
from attestd.evidence.labels import named_label, tables_label
from attestd.evidence.quote import Selection, authenticate_quote
from attestd.evidence.runtime import runtime_facts
from attestd.evidence.windows import windows_parts
from attestd.protocol.messages import SignedAttest
from attestd.tpm import eventdata, ima, imaascii, imaforms, imatemplates, wbcl
from attestd.tpm.algorithms import DIGEST_SIZES
from attestd.tpm.attest import parse_attest
from attestd.tpm.devicepath import device_path_text
from attestd.tpm.errors import BadSignature, Malformed
from attestd.tpm.eventlog import parse_event_log, read_event_log, replay
from attestd.tpm.measured import measured
from attestd.tpm.public import parse_public, parse_public_area, public_key, spki
from attestd.tpm.signature import parse_pkcs1, parse_signature, verify
from attestd.tpm.signaturelist import parse_authority, parse_signature_lists
from attestd_agent.lab import ima as lab_ima
from attestd_agent.lab import uefi
from attestd_agent.lab.firmware import BootImage, simulate_boot
from attestd_pki.chain import TrustStore
from fuzz.target import Target

_MESSAGE: Final = b"message"
_KEY: Final = cert_forge.ec_key(33)
_AREA: Final = made.ecc_area(_KEY)
_EK_AREA: Final = made.ek_area(_KEY)
_RSA: Final = made.rsa_area(made.rsa_key())
_POLICY: Final = EkPolicy(TrustStore.of((cert_forge.make(cert_forge.ROOT),)))
_CHALLENGER: Final = Challenger("verifier", bytes(32))


# --- Seeds ----------------------------------------------------------------------------------------------------------------


def logs() -> Iterator[bytes]:
    """Return the logs of simulated machines: healthy, tampered with, without Secure Boot; and one of the old form."""
    image = BootImage()
    for one in (image, image.with_tampered_kernel(), image.without_secure_boot(), image.with_revocations(b"\2" * 32)):
        yield simulate_boot(one).event_log
    yield simulate_boot(image, banks=("sha1", "sha256", "sha384")).event_log
    kind = event_logs.T
    yield made.agile_log(
        made.agile_event(0, kind.NO_ACTION, b"StartupLocality\0\3"),
        made.agile_event(4, kind.IPL, b"grub_cmd: ls\0"),
        made.agile_event(7, kind.SEPARATOR, bytes(4), digests=[(made.SHA256_ID, bytes(32))]),
    ) + bytes(64)
    yield made.legacy_event(0, kind.S_CRTM_VERSION, b"1\0") + made.legacy_event(7, kind.SEPARATOR, bytes(4))


def lists() -> Iterator[bytes]:
    """Return runtime lists: of the simulator, of other templates, as text."""
    entries = (lab_ima.boot_aggregate((bytes(32),) * 10), *(lab_ima.measured_file(f"/bin/{n}", b"x") for n in "abc"))
    yield lab_ima.encode_list(entries)
    yield lab_ima.encode_list((*entries, lab_ima.ImaEntry(b"/etc/passwd", bytes(32), violation=True)))
    yield (
        made.ima_entry()
        + made.ima_entry(b"/bin/ls", template=b"ima-sig", extra=(b"sig",))
        + made.ima_entry(digest=bytes(20))
    )
    yield made.ima_entry(template=b"d-ng|n-ng|sig", extra=(b"",)) + made.ima_entry(
        template=b"ima-modsig", extra=(b"a", b"b", b"c")
    )
    for order, size in (("little", 32), ("big", 20), ("big", 48)):
        yield _other_list(order, size)
    yield bytes((10, 0, 0, 0)) + b"\1" * 20 + b"\3\0\0\0ima" + b"\2" * 20 + b"\7\0\0\0/bin/sh"
    yield b"10 " + b"11" * 20 + b" ima-sig sha256:" + b"22" * 32 + b" /bin/sh 0302ab\n"
    yield b"10 " + b"11" * 20 + b" ima " + b"22" * 20 + b" /bin/sh\n"


def _other_list(order: Literal["little", "big"], size: int) -> bytes:
    """Return a list as one bank's or a big-endian kernel shows it."""

    def number(value: int) -> bytes:
        return value.to_bytes(4, order)

    fields = b"".join(number(len(one)) + one for one in (b"sha256:\0" + bytes(32), b"/bin/sh\0"))
    return (number(10) + b"\1" * size + number(6) + b"ima-ng" + number(len(fields)) + fields) * 2


def tagged() -> Iterator[bytes]:
    """Return tagged events of Windows' boot manager and of Linux' start code."""

    def event(kind: int, body: bytes) -> bytes:
        return kind.to_bytes(4, "little") + len(body).to_bytes(4, "little") + body

    module = event(0x00070001, "\\a.sys".encode("utf-16-le")) + event(0x00070004, bytes(32))
    yield event(0x40010003, module) + event(0x00050009, b"\1") + event(0x8F3B22EC, b"initrd")
    yield event(0x40010001, event(0x00050002, b"\1") + event(0x00010005, bytes(8)))
    yield event(0x80080001, bytes(64))


def _event_data() -> Iterator[bytes]:
    for log in (simulate_boot(BootImage()).event_log, simulate_boot(BootImage().without_secure_boot()).event_log):
        yield from {event.data for event in parse_event_log(log).events}
    yield b"\3abc" + bytes(16)
    yield b"ACPI DATA"
    yield b"GCE NonHostInfo\0" + bytes(16)
    yield event_logs.variable("Boot0000", b"x") * 2
    yield bytes((1, 0, 0, 0, 0, 0, 0, 0)) + bytes(range(24))
    yield b"\3abc" + bytes((1, 0, 0, 0, 0, 0, 0, 0)) + bytes(range(24))
    yield b"WBCL"
    yield b"EFI PART" + bytes(76) + b"\x80" + bytes(7) + b"\1" + bytes(7) + bytes(128)
    yield "systemd.root=/dev/sda\0".encode("utf-16-le")


def _paths() -> Iterator[bytes]:
    yield from (
        event_logs.image()[32:],
        b"\x04\x01\x2a\x00" + bytes(38) + b"\x7f\xff\x04\x00",
        b"\x02\x01\x0c\x00\xd0\x41\x03\x0a" + bytes(4),
    )
    yield b"\x03\x0a\x14\x00" + bytes(16) + b"\x7f\x01\x04\x00\x01\x01\x06\x00\x00\x1f\x7f\xff\x04\x00"


def _signature_lists() -> Iterator[bytes]:
    image = BootImage()
    yield from (
        image.db,
        image.dbx,
        image.pk,
        image.db + image.dbx,
        uefi.digest_list(*(bytes((n,)) * 32 for n in range(20))),
    )
    yield bytes(16) + image.shim_vendor_certificate


def statements() -> Iterator[bytes]:
    """Return attestations: a quote, a key's certification, a creation, a session's."""
    yield made.quote([(made.SHA1_ID, [1, 2]), (made.SHA256_ID, range(24))])
    for tag in (0x8017, 0x801A):
        yield made.attest_head(tag) + made.sized(made.name_of(_AREA)) * 2
    yield made.attest_head(0x8019) + bytes(20)


def _publics() -> Iterator[bytes]:
    for area in (
        _RSA,
        _AREA,
        _EK_AREA,
        made.ek_area(made.rsa_key()),
        made.ek_area(made.ecc_key("secp384r1"), bits=256, name_algorithm=made.SHA384_ID),
    ):
        yield made.sized(area)
    yield made.sized(made.ecc_area(_KEY, attributes=made.AK_ATTRIBUTES & ~(1 << 16), scheme=made.NULL))


def _signatures() -> Iterator[bytes]:
    yield made.ecdsa_signature(_KEY, _MESSAGE)
    yield made.rsa_signature(made.rsa_key(), _MESSAGE)
    yield made.rsa_signature(made.rsa_key(), _MESSAGE, scheme=made.RSAPSS)
    yield bytes(256)


# --- What is done with the bytes ----------------------------------------------------------------------------------------------


def each(*calls: Callable[[], Any], own: type[Exception] | tuple[type[Exception], ...]) -> None:
    """Make every call, whatever the others raise of their own."""
    for call in calls:
        try:
            call()
        except own:
            continue


def _event_log(data: bytes) -> None:
    read, fault = read_event_log(data)
    log = parse_event_log(data)
    assert (log, None) == (read, fault)
    for bank in log.algorithms:
        found = replay(log, bank)
        assert found.pcrs.keys() == found.initial.keys()
        for event in log.events:
            if bank in dict(event.digests):
                measured(event, bank)


_EVENT_DATA: Final = (
    eventdata.parse_variable,
    eventdata.parse_image_load,
    eventdata.parse_firmware_blob,
    eventdata.parse_post_code,
    eventdata.parse_gpt,
    eventdata.parse_separator,
    eventdata.parse_ipl,
    eventdata.parse_crtm_version,
    eventdata.parse_text,
    eventdata.parse_variables,
    eventdata.parse_handoff_tables,
    named_label,
    tables_label,
)


def _read_event_data(data: bytes) -> None:
    each(*(lambda parse=parse: parse(data) for parse in _EVENT_DATA), own=Malformed)


def _runtime(data: bytes) -> None:
    read, fault = ima.read_ima(data, most=len(data))
    assert (fault is None) or isinstance(fault, Malformed)
    each(lambda: imaascii.parse_ascii(data, []), own=Malformed)
    found = ima.parse_ima(data)
    assert found == read
    ima.template_hash_mismatches(found)
    for padded in (True, False):
        assert sum(1 for _ in ima.replay(found, "sha256", padded=padded)) == len(found.entries) + 1


def _template(data: bytes) -> None:
    name, _, body = data.partition(b"\0")
    template = imatemplates.template_of(name)
    fields = imatemplates.split_fields(template, body)
    each(
        lambda: imatemplates.path_of(template, fields),
        lambda: imatemplates.file_digest_of(template, fields),
        own=Malformed,
    )


def _lists_of_signatures(data: bytes) -> None:
    each(lambda: parse_authority(data), lambda: parse_signature_lists(data), own=Malformed)
    assert len(revoked_digests(data)) <= len(data)


def _public(data: bytes) -> None:
    each(lambda: parse_public_area(data), own=Malformed)
    public = parse_public(data)
    assert made.sized(public.area) == data
    public_key(public)
    spki(public)


def _signature(data: bytes) -> None:
    each(lambda: parse_pkcs1(data, digest="sha256"), own=Malformed)
    signature = parse_signature(data)
    for area in (_AREA, _RSA):
        each(lambda area=area: verify(parse_public_area(area), signature, _MESSAGE), own=BadSignature)  # type: ignore[misc]


def _boot(data: bytes) -> None:
    log = parse_event_log(data)
    for bank in log.algorithms:
        if bank in DIGEST_SIZES:
            pcrs = {index: bytes(DIGEST_SIZES[bank]) for index in range(15)} | replay(log, bank).pcrs
            facts = boot_facts(log, log_digest=sha256(data).digest(), bank=bank, pcrs=pcrs)
            assert facts.explained | facts.unexplained | facts.unlogged == set(pcrs)


def _list_facts(data: bytes) -> None:
    found = ima.parse_ima(data)
    *_, value = ima.replay(found, "sha256", padded=False)
    facts = runtime_facts(found, bank="sha256", pcrs={index: bytes(32) for index in range(10)} | {10: value})
    # The shortest prefix is taken: what follows it extends nothing.
    assert facts.count + facts.unread == len(found.entries)
    assert not facts.findings or facts.convention == "padded"


def _keys(data: bytes) -> None:
    each(
        lambda: check_attestation_key(data),
        lambda: check_device_key(data),
        lambda: read_endorsement_key(data),
        own=Refused,
    )


def _ek(data: bytes) -> None:
    key = read_endorsement_key(made.sized(_EK_AREA))
    half = int.from_bytes(data[:2], "big")
    identify(
        key, [part for part in (data[2 : 2 + half], data[2 + half :]) if part], policy=_POLICY, now_s=cert_forge.NOW
    )


def _ek_seeds() -> Iterator[bytes]:
    root, leaf = cert_forge.make(cert_forge.ROOT), cert_forge.make(cert_forge.LEAF, cert_forge.ROOT)
    middle = cert_forge.make(cert_forge.INTERMEDIATE, cert_forge.ROOT)
    below = cert_forge.make(cert_forge.LEAF, cert_forge.INTERMEDIATE)
    for first, second in (
        (leaf.der, b""),
        (leaf.der, root.der),
        (below.der, middle.der),
        (b"", below.der + middle.der),
    ):
        yield len(first).to_bytes(2, "big") + first + second


def _quote(data: bytes) -> None:
    size = int.from_bytes(data[:2], "big")
    signed = SignedAttest(data[2 : 2 + size], data[2 + size :])
    authenticate_quote(
        parse_public_area(_AREA), signed, qualifying_data=b"n" * 32, selection=Selection("sha256", tuple(range(10)))
    )


def _quote_seeds() -> Iterator[bytes]:
    for statement in statements():
        yield made.sized(statement) + made.ecdsa_signature(_KEY, statement)
    yield made.sized(made.quote()) + made.ecdsa_signature(_KEY, made.quote())


def _windows(data: bytes) -> None:
    each(lambda: list(wbcl.tagged(data)), own=Malformed)
    for pcr in (11, 12, 13, 14):
        windows_parts(pcr, data)


def _nonce(data: bytes) -> None:
    issued_at(data)
    each(
        lambda: _CHALLENGER.check_enrol_nonce(data, request_digest=bytes(32), now_ms=1),
        lambda: _CHALLENGER.check_attest_nonce(data, device_id="d", now_ms=1),
        own=Refused,
    )


def _nonce_seeds() -> Iterable[bytes]:
    given: Any = {"random": bytes(16), "issued_ms": 1, "expires_ms": 2**40}
    return _CHALLENGER.enrol_nonce(bytes(32), **given), _CHALLENGER.attest_nonce("d", **given)


_LOGS: Final = ("eventlog/**/*", "malformed/eventlog*/*", "vm/*/eventlog.bin")
_LISTS: Final = ("ima/**/*", "malformed/ima/*")

TARGETS: Final = {
    "eventlog": Target(
        _event_log,
        (Malformed,),
        logs,
        (parse_event_log, read_event_log),
        _LOGS,
        "log",
        (b"Spec ID Event03\0", b"StartupLocality\0"),
    ),
    "eventdata": Target(
        _read_event_data,
        (),
        _event_data,
        _EVENT_DATA,
        ("uefi/**/*", "eventlog/fragment/*"),
        words=(b"EFI PART", b"grub_cmd: ", b"kernel_cmdline: ", b"\xff\xff\xff\xff"),
    ),
    "devicepath": Target(
        lambda data: device_path_text(data),
        (Malformed,),
        _paths,
        (device_path_text,),
        ("uefi/**/*",),
        words=(b"\x7f\xff\x04\x00", b"\x7f\x01\x04\x00"),
    ),
    "ima": Target(
        _runtime,
        (Malformed,),
        lists,
        (ima.parse_ima, ima.read_ima, imaascii.parse_ascii, imaforms.other_form, imaforms.parse_other),
        _LISTS,
        "list",
        (b"ima-ng", b"ima-sig", b"sha256:", b"d-ng|n-ng"),
    ),
    "imatemplate": Target(
        _template,
        (Malformed,),
        lambda: (
            [b"ima-ng\0" + one[38:] for one in (made.ima_entry(), made.ima_entry(b"/a"))]
            + [b"ima\0" + bytes(30), b"d-ngv2|n-ng\0" + made.ima_entry()[38:]]
        ),
        (imatemplates.template_of, imatemplates.split_fields, imatemplates.path_of, imatemplates.file_digest_of),
        words=(b"d-modsig|", b"|n-ng", b"verity:sha256:\0"),
    ),
    "signaturelist": Target(
        _lists_of_signatures,
        (Malformed,),
        _signature_lists,
        (parse_signature_lists, parse_authority, revoked_digests),
        ("uefi/**/*",),
    ),
    "attest": Target(lambda data: parse_attest(data), (Malformed,), statements, (parse_attest,), words=(b"\xffTCG",)),
    "public": Target(_public, (Malformed,), _publics, (parse_public, parse_public_area)),
    "signature": Target(_signature, (Malformed,), _signatures, (parse_signature, parse_pkcs1)),
    "windows": Target(_windows, (Malformed,), tagged, (wbcl.tagged,)),
    "bootfacts": Target(_boot, (Malformed,), logs, (), _LOGS, "log"),
    "runtimefacts": Target(_list_facts, (Malformed,), lists, (), _LISTS, "list"),
    "keys": Target(_keys, (), _publics, (check_attestation_key, check_device_key, read_endorsement_key)),
    "ek": Target(_ek, (Refused,), _ek_seeds, (identify,)),
    "quote": Target(_quote, (Refused,), _quote_seeds, (authenticate_quote,)),
    "nonce": Target(_nonce, (), _nonce_seeds, (issued_at, Challenger.check_enrol_nonce, Challenger.check_attest_nonce)),
}
