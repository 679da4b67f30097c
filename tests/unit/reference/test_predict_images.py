"""Executable images: their sections, and the digest under which firmware measures them."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

import boot_artefacts as made
from attestd.reference.authenticode import image_digest
from attestd.reference.files import ArtefactRefused
from attestd.reference.imageauthority import authority, signatures, signed_digest
from attestd.reference.pe import parse_image
from attestd.reference.signaturedatabase import signature_database
from attestd.reference.uki import unified_kernel
from attestd_agent.lab import authenticode as laboratory
from boot_artefacts import Part

OSSLSIGNCODE = shutil.which("osslsigncode")
CHECKSUM = 0x40 + 24 + 64
DIRECTORY = 0x40 + 24 + 112 + 8 * 4
TABLE = 0x40 + 24 + 112 + 8 * 16


def digest(data: bytes) -> bytes:
    return image_digest(parse_image(data), "sha256")


def refused(data: bytes) -> str:
    with pytest.raises(ArtefactRefused) as caught:
        parse_image(data)
    return caught.value.code


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes((data[position] ^ 1,)) + data[position + 1 :]


def test_sections_are_read_with_their_content() -> None:
    found = parse_image(made.image(Part(".text", b"code"), Part(".data", b"x" * 700)))
    assert [(s.name, bytes(found.content(s))) for s in found.sections] == [(".text", b"code"), (".data", b"x" * 700)]


def test_a_section_that_is_longer_in_memory_ends_in_zeros() -> None:
    found = parse_image(made.image(Part(".data", b"x" * 512, size=600)))
    assert bytes(found.content(found.sections[0])) == b"x" * 512 + bytes(88)


def test_a_section_that_is_mostly_not_in_the_file_has_no_content() -> None:
    found = parse_image(made.image(Part(".bss", b"", size=2**31)))
    with pytest.raises(ArtefactRefused, match="2147483648 bytes"):
        found.content(found.sections[0])


@pytest.mark.parametrize("plus", [True, False], ids=["PE32+", "PE32"])
def test_the_digest_leaves_out_checksum_directory_entry_and_signatures(plus: bool) -> None:
    data = made.image(Part(".text", b"code"), plus=plus, certificates=b"s" * 24)
    checksum = 0x40 + 24 + 64
    directory = 0x40 + 24 + (112 if plus else 96) + 32
    covered = data[:checksum] + data[checksum + 4 : directory] + data[directory + 8 : -24]
    assert digest(data) == hashlib.sha256(covered).digest()


def test_the_digest_is_that_of_the_laboratory() -> None:
    data = made.image(Part(".text", b"code" * 333), Part(".data", b"d"))
    assert digest(data) == laboratory.image_digest(data, "sha256")


def test_signing_does_not_change_the_digest() -> None:
    assert digest(made.image(Part(".text", b"code"))) == digest(
        made.image(Part(".text", b"code"), certificates=b"s" * 40)
    )


def test_bytes_behind_the_last_section_are_covered_whatever_their_number() -> None:
    data = made.image(Part(".text", b"code"), tail=b"odd")
    assert digest(data) != digest(flipped(data, len(data) - 1))
    assert len({digest(made.image(Part(".text", b"c"), tail=b"\0" * size)) for size in range(9)}) == 9


@pytest.mark.parametrize(
    "position", [0x3C - 1, CHECKSUM - 9, CHECKSUM + 4, DIRECTORY - 1, DIRECTORY + 8, 1023, 1024, 1535]
)
def test_every_other_byte_is_covered(position: int) -> None:
    data = made.image(Part(".text", b"code" * 128))
    assert digest(flipped(data, position)) != digest(data)


@pytest.mark.parametrize("position", [CHECKSUM, CHECKSUM + 3])
def test_the_checksum_is_not_covered(position: int) -> None:
    data = made.image(Part(".text", b"code"))
    assert digest(flipped(data, position)) == digest(data)


def test_sections_are_hashed_in_the_order_of_the_file() -> None:
    data = made.image(Part(".b", b"b" * 512, offset=1536), Part(".a", b"a" * 512, offset=1024))
    covered = data[:CHECKSUM] + data[CHECKSUM + 4 : DIRECTORY] + data[DIRECTORY + 8 :]
    assert digest(data) == hashlib.sha256(covered).digest()


def test_an_image_with_few_directories_has_no_signatures() -> None:
    data = made.image(Part(".text", b"code"), directories=4)
    assert digest(data) == hashlib.sha256(data[:CHECKSUM] + data[CHECKSUM + 4 :]).digest()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "image-header"),
        (b"MZ", "image-header"),
        (b"\x7fELF".ljust(4096, b"\0"), "image-header"),
        (b"MZ".ljust(0x3C, b"\0") + b"\xff\xff\xff\xff", "image-header"),
        (made.image(*(Part(".x", b""),) * 97, headers=8192), "image-header"),
        (made.image(Part(".text", b"c"))[:700], "image-header"),
        (made.image(Part(".text", b"c"), headers=600)[:599], "image-header"),
        (made.image(Part(".text", b"c", offset=512)), "image-section"),
        (made.image(Part(".a", b"a" * 512), Part(".b", b"b" * 512, offset=1400)), "image-section"),
        (made.image(Part(".text", b"c", stored=4096)), "image-section"),
        (made.image(Part(".text", b"c", stored=520), tail=b"xxxxxxxx", certificates=b"s" * 24), None),
        (made.image(Part(".text", b"c", stored=544), tail=b"xxxxxxxx", certificates=b"s" * 24), "image-section"),
    ],
    ids=["empty", "two bytes", "ELF", "header far off", "97 sections", "cut", "cut headers", "in headers", "overlap",
         "behind the end", "up to the signatures", "into the signatures"],
)  # fmt: skip
def test_an_image_of_which_there_could_be_two_readings_is_refused(data: bytes, code: str | None) -> None:
    if code is None:
        assert parse_image(data)
    else:
        assert refused(data) == code


@given(st.data())
def test_damaged_images_are_refused_in_one_way(data: st.DataObject) -> None:
    sound = made.gateway(certificates=made.Authority("a").signature(bytes(32)))
    changed = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(changed)[: data.draw(st.integers(0, len(changed)))]
    codes = set()
    try:
        found = parse_image(damaged)
        codes.add(f"image-{len(image_digest(found, 'sha256'))}")
        unified_kernel(found)
        authority(found, b"")
    except ArtefactRefused as error:
        codes.add(error.code)
    assert {code.partition("-")[0] for code in codes} <= {"image", "uki"}


@pytest.mark.skipif(OSSLSIGNCODE is None, reason="apt-get install osslsigncode")
@pytest.mark.parametrize("tail", [b"", b"odd"])
def test_the_digest_is_the_one_that_a_signing_tool_signs(tmp_path: Path, tail: bytes) -> None:
    signer = made.Authority("signer")
    (tmp_path / "key.pem").write_bytes(_pem(signer))
    (tmp_path / "cert.der").write_bytes(signer.der)
    (tmp_path / "in.efi").write_bytes(made.image(Part(".text", b"code" * 99), tail=tail))
    command = [
        str(OSSLSIGNCODE),
        "sign",
        "-h",
        "sha256",
        "-certs",
        "cert.der",
        "-key",
        "key.pem",
        "-in",
        "in.efi",
        "-out",
        "out.efi",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    found = parse_image((tmp_path / "out.efi").read_bytes())
    assert signed_digest(signatures(found)[0]) == ("sha256", image_digest(found, "sha256"))
    assert authority(found, _database(signer)) == made.OWNER.bytes_le + signer.der


def _pem(signer: made.Authority) -> bytes:
    return signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _database(*authorities: made.Authority) -> bytes:
    return b"".join(signature_database(one.der, owner=made.OWNER) for one in authorities)


def signed(data: bytes, signer: made.Authority, *above: made.Authority) -> bytes:
    return made.image(
        Part(".text", data),
        certificates=signer.signature(digest(made.image(Part(".text", data))), *(a.der for a in above)),
    )


def test_the_certificate_that_signed_lets_an_image_run() -> None:
    other, signer = made.Authority("other"), made.Authority("signer")
    found = authority(parse_image(signed(b"code", signer)), _database(other, signer))
    assert found == made.OWNER.bytes_le + signer.der


def test_a_certificate_above_the_signer_lets_an_image_run() -> None:
    root = made.Authority("root")
    middle = made.Authority("middle", root)
    signer = made.Authority("signer", middle)
    data = parse_image(signed(b"code", signer, middle))
    assert authority(data, _database(root)) == made.OWNER.bytes_le + root.der
    assert authority(data, _database(middle, root)) == made.OWNER.bytes_le + middle.der


def test_a_stranger_s_certificate_of_the_same_name_lets_nothing_run() -> None:
    assert (
        authority(parse_image(signed(b"code", made.Authority("signer"))), _database(made.Authority("signer"))) is None
    )


def test_an_image_that_is_not_the_signed_one_is_refused() -> None:
    data = signed(b"code", made.Authority("signer"))
    with pytest.raises(ArtefactRefused, match="not the one that was signed"):
        authority(parse_image(flipped(data, 1024)), b"")


def test_an_unsigned_image_has_no_authority() -> None:
    assert authority(parse_image(made.kernel()), _database(made.Authority("signer"))) is None
