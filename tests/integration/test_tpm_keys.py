"""Activation, certified keys and sealed secrets, on a software TPM."""

import hashlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tpm2_pytss
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from tpm2_pytss.utils import NVReadEK, create_ek_template

from attestd_agent import tpm_templates as templates
from attestd_agent.lab.device import SoftwareDevice
from attestd_agent.lab.manufacturer import Manufacturer
from attestd_agent.tpm import KeyBlob, TpmRefused, TpmUnavailable
from attestd_agent.tpm_esys import EsysTpm, LabTpm
from swtpm import SWTPM_MARKS, DeviceFactory
from tpm_wire import attributes_of, ecc_key, name_of, parse_attest, sized, verify

pytest_plugins = ("swtpm",)
pytestmark = SWTPM_MARKS

SECRET = b"an activation secret of 32 bytes"


def make_credential(ek: bytes, ak_name: bytes, secret: bytes, place: Path) -> tuple[bytes, bytes]:
    """Return (TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET) as tpm2_makecredential makes them."""
    (place / "ek").write_bytes(ek)
    (place / "secret").write_bytes(secret)
    subprocess.run(
        ["tpm2_makecredential", "-T", "none", "-u", "ek", "-s", "secret", "-n", ak_name.hex(), "-o", "credential"],
        cwd=place, capture_output=True, check=True,
    )  # fmt: skip
    data = (place / "credential").read_bytes()
    assert data[:8] == bytes.fromhex("badcc0de00000001")
    blob, rest = sized(data[8:])
    return data[8 : 10 + len(blob)], rest


def run_tool(device: SoftwareDevice, *arguments: str, cwd: Path | None = None) -> None:
    subprocess.run([*arguments, "-T", device.tcti], cwd=cwd, capture_output=True, check=True)


# --- Identity ---------------------------------------------------------------------------------------------------------


def test_ek_certificate_chains_to_the_manufacturer_and_carries_the_ek(tpm: EsysTpm, manufacturer: Manufacturer) -> None:
    root, issuer = x509.load_pem_x509_certificates(manufacturer.anchors)
    issuer.verify_directly_issued_by(root)
    leaf = x509.load_der_x509_certificate(tpm.ek_certificates()[0])
    leaf.verify_directly_issued_by(issuer)
    key = leaf.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.public_numbers().n.to_bytes(256, "big") == tpm.ek_public()[-256:]


def test_two_manufacturers_do_not_share_an_authority(
    swtpm_device: DeviceFactory, manufacturer: Manufacturer, other_manufacturer: Manufacturer
) -> None:
    device = swtpm_device(maker=other_manufacturer)
    leaf = x509.load_der_x509_certificate(device.open_tpm().ek_certificates()[0])
    _, issuer = x509.load_pem_x509_certificates(manufacturer.anchors)
    with pytest.raises(ValueError, match="Issuer"):
        leaf.verify_directly_issued_by(issuer)


def test_activation_returns_the_secret_made_for_this_ek_and_ak(tpm: EsysTpm, tmp_path: Path) -> None:
    assert tpm.activate(*make_credential(tpm.ek_public(), name_of(tpm.ak_public()), SECRET, tmp_path)) == SECRET


def test_k07_credential_for_another_tpm_is_refused(swtpm_device: DeviceFactory, tmp_path: Path) -> None:
    here, there = swtpm_device().open_tpm(), swtpm_device().open_tpm()
    credential = make_credential(there.ek_public(), name_of(here.ak_public()), SECRET, tmp_path)
    with pytest.raises(TpmRefused) as refused:
        here.activate(*credential)
    assert refused.value.code == "foreign_blob"


def test_k03_credential_for_another_name_is_refused(tpm: EsysTpm, tmp_path: Path) -> None:
    name = b"\x00\x0b" + hashlib.sha256(b"another key").digest()
    credential = make_credential(tpm.ek_public(), name, SECRET, tmp_path)
    with pytest.raises(TpmRefused) as refused:
        tpm.activate(*credential)
    assert refused.value.code == "foreign_blob"


@pytest.mark.parametrize(
    "change", [lambda b: b + b"\0", lambda b: b[:-1], lambda b: b"", lambda b: b"\xff\xff" + b[2:]]
)
def test_credential_of_another_form_never_reaches_activation(
    tpm: EsysTpm, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    blob, secret = make_credential(tpm.ek_public(), name_of(tpm.ak_public()), SECRET, tmp_path)
    for pair in ((change(blob), secret), (blob, change(secret))):
        with pytest.raises(TpmRefused) as refused:
            tpm.activate(*pair)
        assert refused.value.code == "malformed_input"


def test_tpm_without_certificates_still_has_its_ek(device: SoftwareDevice) -> None:
    before = device.open_tpm().ek_public()
    for index in ("0x1c00002", "0x1c00016"):
        run_tool(device, "tpm2_nvundefine", "-C", "p", index)
    bare = device.open_tpm()
    assert bare.ek_certificates() == ()
    assert bare.ek_public() == before


def test_ecc_p384_endorsement_key_goes_with_its_certificate_and_activates(
    device: SoftwareDevice, tmp_path: Path
) -> None:
    run_tool(device, "tpm2_nvundefine", "-C", "p", "0x1c00002")
    tpm = device.open_tpm()
    (certificate,) = tpm.ek_certificates()
    key = x509.load_der_x509_certificate(certificate).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.public_numbers().x.to_bytes(48, "big") in tpm.ek_public()
    assert tpm.activate(*make_credential(tpm.ek_public(), name_of(tpm.ak_public()), SECRET, tmp_path)) == SECRET


def test_ecc_p256_endorsement_key_is_the_one_of_the_low_range_template(device: SoftwareDevice, tmp_path: Path) -> None:
    for index in ("0x1c00002", "0x1c00016"):
        run_tool(device, "tpm2_nvundefine", "-C", "p", index)
    define_nv(device, 0x1C0000A, b"certificate of an ECC key", tmp_path)
    run_tool(device, "tpm2_createek", "-G", "ecc256", "-c", "ek.ctx", "-u", "ek.pub", "-f", "tss", cwd=tmp_path)
    run_tool(device, "tpm2_flushcontext", "-t")
    tpm = device.open_tpm()
    assert tpm.ek_certificates() == (b"certificate of an ECC key",)
    assert tpm.ek_public() == (tmp_path / "ek.pub").read_bytes()
    assert tpm.activate(*make_credential(tpm.ek_public(), name_of(tpm.ak_public()), SECRET, tmp_path)) == SECRET


def define_nv(device: SoftwareDevice, index: int, data: bytes, place: Path) -> None:
    (place / "nv").write_bytes(data)
    attributes = "ownerread|authread|ppread|platformcreate|ppwrite|no_da"
    run_tool(device, "tpm2_nvdefine", "-C", "p", "-s", str(len(data)), "-a", attributes, hex(index))
    run_tool(device, "tpm2_nvwrite", "-C", "p", "-i", "nv", hex(index), cwd=place)


def test_chain_that_spans_several_indices_comes_as_certificates(
    device: SoftwareDevice, manufacturer: Manufacturer, tmp_path: Path
) -> None:
    root, issuer = (x509_der(pem) for pem in (manufacturer.root, manufacturer.intermediate))
    joined = issuer + root + b"\xff" * 20
    for number, start in enumerate(range(0, len(joined), 700)):
        define_nv(device, 0x1C00100 + number, joined[start : start + 700], tmp_path)
    certificates = device.open_tpm().ek_certificates()
    assert certificates[2:] == (issuer, root)


def x509_der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def test_ek_of_a_manufacturer_with_template_and_nonce_is_made_with_both(device: SoftwareDevice, tmp_path: Path) -> None:
    """Held against tpm2-pytss; tpm2_createek 5.4 copies a pointer instead of the nonce."""
    plain = device.open_tpm().ek_public()
    define_nv(device, 0x1C00004, templates.EK_TEMPLATES[0].public, tmp_path)
    define_nv(device, 0x1C00003, b"nonce", tmp_path)
    with tpm2_pytss.ESAPI(device.tcti) as esys:
        _, template = create_ek_template("EK-RSA2048", NVReadEK(esys))
        handle, public, *_ = esys.create_primary(None, template, tpm2_pytss.ESYS_TR.ENDORSEMENT)
        esys.flush_context(handle)
    assert device.open_tpm().ek_public() == public.marshal() != plain


# --- Device keys ------------------------------------------------------------------------------------------------------


def test_device_key_signs_and_cannot_leave(tpm: EsysTpm) -> None:
    key = tpm.create_device_key()
    digest = hashlib.sha256(b"message").digest()
    verify(key.public, tpm.sign(key, digest), b"message")
    fixed_tpm, fixed_parent, made_here, user, no_da, sign = (1 << bit for bit in (1, 4, 5, 6, 10, 18))
    assert attributes_of(key.public) == fixed_tpm | fixed_parent | made_here | user | no_da | sign


def test_every_device_key_is_a_new_one(tpm: EsysTpm) -> None:
    first, second = tpm.create_device_key(), tpm.create_device_key()
    assert ecc_key(first.public).public_numbers() != ecc_key(second.public).public_numbers()


def test_k10_certification_names_the_key_and_carries_the_nonce(tpm: EsysTpm) -> None:
    key = tpm.create_device_key()
    result = tpm.certify(key, b"nonce of the enrolment")
    verify(tpm.ak_public(), result.signature, result.attest)
    attest = parse_attest(result.attest)
    assert (attest.kind, attest.extra_data) == (0x8017, b"nonce of the enrolment")
    assert sized(attest.rest)[0] == name_of(key.public)


def test_device_key_survives_a_power_cycle(device: SoftwareDevice, tpm: EsysTpm) -> None:
    key = tpm.create_device_key()
    tpm.sign(key, bytes(32))
    device.boot()
    for agent in (tpm, device.open_tpm()):
        verify(key.public, agent.sign(key, hashlib.sha256(b"m").digest()), b"m")


def test_device_key_is_refused_by_another_tpm(swtpm_device: DeviceFactory) -> None:
    key = swtpm_device().open_tpm().create_device_key()
    with pytest.raises(TpmRefused) as refused:
        swtpm_device().open_tpm().sign(key, bytes(32))
    assert refused.value.code == "foreign_blob"


def test_device_key_is_gone_after_the_owner_hierarchy_was_cleared(tpm: EsysTpm, lab_tpm: LabTpm) -> None:
    key = tpm.create_device_key()
    tpm.sign(key, bytes(32))
    lab_tpm.clear()
    with pytest.raises(TpmRefused) as refused:
        tpm.sign(key, bytes(32))
    assert refused.value.code == "foreign_blob"


def test_public_part_of_one_key_with_the_private_part_of_another_is_refused(tpm: EsysTpm) -> None:
    first, second = tpm.create_device_key(), tpm.create_device_key()
    with pytest.raises(TpmRefused) as refused:
        tpm.sign(KeyBlob(first.public, second.private), bytes(32))
    assert refused.value.code == "foreign_blob"


def test_routine_signature_costs_three_commands(tpm: EsysTpm) -> None:
    key = tpm.create_device_key()
    tpm.sign(key, bytes(32))
    before = tpm.commands
    tpm.sign(key, bytes(32))
    assert tpm.commands - before == 3


# --- Sealed secrets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [b"k" * 32, b"\0", bytes(range(128))])
def test_sealed_secret_comes_back(device: SoftwareDevice, tpm: EsysTpm, secret: bytes) -> None:
    blob = tpm.seal(secret)
    device.boot()
    assert device.open_tpm().unseal(blob) == secret
    assert secret not in blob.public + blob.private or len(secret) == 1


@pytest.mark.parametrize("secret", [b"", b"x" * 129])
def test_secret_that_does_not_fit_is_refused(tpm: EsysTpm, secret: bytes) -> None:
    with pytest.raises(TpmRefused) as refused:
        tpm.seal(secret)
    assert refused.value.code == "malformed_input"


def test_sealed_secret_is_refused_by_another_tpm(swtpm_device: DeviceFactory) -> None:
    blob = swtpm_device().open_tpm().seal(b"secret")
    with pytest.raises(TpmRefused) as refused:
        swtpm_device().open_tpm().unseal(blob)
    assert refused.value.code == "foreign_blob"


# --- The chip itself --------------------------------------------------------------------------------------------------


def test_no_operation_leaves_anything_loaded(tpm: EsysTpm, lab_tpm: LabTpm, tmp_path: Path) -> None:
    """In one chain, good and bad: three slots would fill up at the first leak."""
    credential = make_credential(tpm.ek_public(), name_of(tpm.ak_public()), SECRET, tmp_path)
    key, sealed = tpm.create_device_key(), tpm.seal(b"secret")
    foreign = KeyBlob(key.public, sealed.private)
    operations: list[Callable[[], object]] = [
        lambda: tpm.activate(*credential),
        lambda: tpm.certify(key, b"n"),
        lambda: tpm.quote(b"n", bank="sha256", pcrs=(0,)),
        lambda: tpm.sign(key, bytes(32)),
        lambda: tpm.unseal(sealed),
        lambda: tpm.unseal(foreign),
        lambda: tpm.activate(b"\x00\x01x", credential[1]),
        lambda: tpm.unseal(key),
        lambda: tpm.sign(sealed, bytes(32)),
    ]
    for number, operation in enumerate(operations):
        tpm.close()  # the cold path loads most
        try:
            operation()
        except TpmRefused:
            assert number >= 5
        assert lab_tpm.transient_handles() == ()


@pytest.fixture
def full_tpm(device: SoftwareDevice) -> Iterator[Callable[[], None]]:
    """A neighbour without manners: it holds all three slots of the TPM until the function that this gives is called."""
    with tpm2_pytss.ESAPI(device.tcti) as esys:
        held = [esys.create_primary(None, "ecc")[0] for _ in range(3)]

        def leave() -> None:
            while held:
                esys.flush_context(held.pop())

        yield leave
        leave()


def test_agent_waits_for_a_neighbour_that_fills_the_tpm(tpm: EsysTpm, full_tpm: Callable[[], None]) -> None:
    timer = threading.Timer(0.1, full_tpm)
    timer.start()
    assert tpm.quote(b"n", bank="sha256", pcrs=(0,)).attest
    timer.join()


def test_agent_does_not_wait_for_ever(tpm: EsysTpm, full_tpm: Callable[[], None]) -> None:
    with pytest.raises(TpmRefused) as refused:
        tpm.quote(b"n", bank="sha256", pcrs=(0,))
    assert refused.value.code == "out_of_memory"


def test_four_agents_share_a_bare_tpm(device: SoftwareDevice) -> None:
    def work(_: int) -> int:
        tpm = device.open_tpm()
        return sum(len(tpm.quote(b"n", bank="sha256", pcrs=(0,)).pcrs) for _ in range(10))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [10] * 4


def test_failures_do_not_lock_the_tpm_out(swtpm_device: DeviceFactory) -> None:
    """All keys are noDA, so that no stranger's blob can count against the owner."""
    foreign = swtpm_device().open_tpm().seal(b"secret")
    tpm = swtpm_device().open_tpm()
    mine = tpm.seal(b"mine")
    for _ in range(40):
        with pytest.raises(TpmRefused, match="0x1df"):
            tpm.unseal(foreign)
    assert tpm.unseal(mine) == b"mine"


def test_hierarchy_passwords_are_used(device: SoftwareDevice, tmp_path: Path) -> None:
    plain = device.open_tpm()
    ak = plain.ak_public()
    credential = make_credential(plain.ek_public(), name_of(ak), SECRET, tmp_path)
    run_tool(device, "tpm2_changeauth", "-c", "o", "owner")
    run_tool(device, "tpm2_changeauth", "-c", "e", "endorsement")
    with pytest.raises(TpmRefused) as refused:
        device.open_tpm().ak_public()
    assert refused.value.code == "authorization_refused"
    tpm = EsysTpm(device.tcti, owner_auth=b"owner", endorsement_auth=b"endorsement")
    assert tpm.ak_public() == ak
    assert tpm.activate(*credential) == SECRET
    assert tpm.unseal(tpm.seal(b"secret")) == b"secret"


def test_tpm_that_is_off_is_unavailable_and_comes_back(device: SoftwareDevice, tpm: EsysTpm) -> None:
    device.tpm.power_off()
    with pytest.raises(TpmUnavailable):
        tpm.ak_public()
    device.boot()
    assert tpm.ak_public()


@pytest.mark.parametrize("tcti", ["device:/dev/no-such-tpm", "no-such-transport:x", "swtpm:path=/no/such/socket"])
def test_address_without_a_tpm_is_unavailable(tcti: str) -> None:
    with pytest.raises(TpmUnavailable):
        EsysTpm(tcti).ak_public()
