"""A predicted boot is the boot: what is predicted of artefacts is what evidence of their boot claims."""

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

import boot_artefacts as made
from appraisal_cases import vm_evidence, vm_pcrs
from attestd.evidence.components import components
from attestd.evidence.types import Component
from attestd.reference.authenticode import image_digest
from attestd.reference.boot import Artefact, Style
from attestd.reference.files import ArtefactRefused
from attestd.reference.pe import parse_image
from attestd.reference.predict import Boot, Prediction, predict
from attestd.reference.secureboot import Database
from attestd.reference.signaturedatabase import signature_database
from attestd.tpm.eventlog import parse_event_log
from attestd_agent.lab.firmware import BootImage, simulate_boot
from testdata import needs_testdata

NO_KEYS = tuple(Database(name, b"", name) for name in ("PK", "KEK", "db", "dbx"))
LINE = "root=/dev/vda2 ro quiet"


def artefact(data: bytes, name: str = "file") -> Artefact:
    return Artefact(name, data)


def unified(**more: Any) -> Boot:
    return Boot(unified=artefact(made.gateway(LINE), "gateway.efi"), **more)


def laboratory(image: BootImage) -> Boot:
    """Return the artefacts of a machine of the laboratory."""
    version = image.kernel_version
    databases = (("PK", image.pk), ("KEK", image.kek), ("db", image.db), ("dbx", image.dbx))
    return Boot(
        loader=artefact(image.shim, "shim"),
        applications=(artefact(image.loader, "grub"),),
        kernel=artefact(image.kernel, "vmlinuz"),
        initrds=(artefact(image.initrd, f"initrd.img-{version}"),),
        line=f"/vmlinuz-{version} {image.command_line}",
        commands=(*image.loader_commands, f"initrd /initrd.img-{version}"),
        databases=tuple(Database(name, content, name) for name, content in databases),
        style=Style.GRUB,
    )


def claims(found: Prediction) -> set[tuple[str, int, bytes, str | None]]:
    return {said(one.component) for one in found.claims}


def said(one: Component) -> tuple[str, int, bytes, str | None]:
    return one.claim, one.pcr, one.digest, one.value


def of(found: Prediction, claim: str) -> list[Component]:
    return [one.component for one in found.claims if one.component.claim == claim]


def register(found: Prediction, index: int) -> bytes | None:
    return next((one.value for one in found.registers if one.index == index), None)


def refused(wanted: Boot) -> str:
    with pytest.raises(ArtefactRefused) as caught:
        predict(wanted, "sha256")
    return caught.value.code


@pytest.mark.parametrize("bank", ["sha1", "sha256", "sha384"])
@pytest.mark.parametrize(
    "image", [BootImage(), BootImage().with_kernel("6.1.0-30-amd64"), BootImage().with_command_line("ro single")]
)
def test_what_is_predicted_of_a_simulated_machine_is_what_it_measures(image: BootImage, bank: str) -> None:
    log = parse_event_log(simulate_boot(image, banks=(bank,)).event_log)
    measured = {said(one) for one, _ in components(log.events, bank, registers=frozenset(range(24)))}
    assert claims(predict(laboratory(image), bank)) <= measured


@needs_testdata
def test_a_unified_kernel_is_predicted_as_a_recorded_boot_measured_one() -> None:
    recorded = vm_evidence("good-1").boot
    assert recorded is not None
    found = predict(unified(disk=artefact(made.disk()), secure_boot=False, databases=NO_KEYS), "sha256")
    for pcr in (4, 5, 9, 11):
        expected = [(one.claim, one.value) for one in recorded.components if one.pcr == pcr and one.claim != "gpt"]
        predicted = [(one.component.claim, one.component.value) for one in found.claims if one.component.pcr == pcr]
        assert [one for one in predicted if one[0] != "gpt"] == expected


@needs_testdata
def test_pcr_7_without_keys_is_that_of_a_recorded_boot() -> None:
    found = predict(unified(secure_boot=False, databases=NO_KEYS), "sha256")
    assert register(found, 7) == vm_pcrs("good-1")[7]


def test_a_unified_kernel_hands_its_command_line_and_ramdisk_to_the_kernel() -> None:
    found = predict(unified(), "sha256")
    handed = (LINE + "\0").encode("utf-16-le")
    assert {one.digest for one in of(found, "kernel-command-line")} == {
        sha256(LINE.encode()).digest(),
        sha256(handed).digest(),
    }
    assert {one.digest for one in of(found, "initrd")} == {sha256(b"an initial ramdisk" * 99).digest()}


def test_the_kernel_inside_may_be_measured_or_not() -> None:
    found = predict(unified(), "sha256")
    (inner,) = [one for one in found.claims if one.component.claim == "application"]
    assert (inner.sure, inner.component.digest) == (False, image_digest(parse_image(made.kernel()), "sha256"))
    assert register(found, 4) is None


def test_pcr_4_depends_on_whether_firmware_sees_the_kernel_inside() -> None:
    off = register(predict(unified(secure_boot=False), "sha256"), 4)
    on = register(predict(unified(secure_boot=True), "sha256"), 4)
    assert None not in (off, on)
    assert off != on


def test_another_command_line_is_measured_beside_the_one_inside() -> None:
    found = predict(unified(line="debug", secure_boot=False), "sha256")
    assert [(one.pcr, one.value) for one in of(found, "kernel-command-line")] == [(11, None), (12, "debug"), (9, None)]


@pytest.mark.parametrize("secure_boot", [True, None])
def test_another_command_line_is_refused_where_the_stub_would_not_take_it(secure_boot: bool | None) -> None:
    assert refused(unified(line="debug", secure_boot=secure_boot)) == "predict-conflict"


def test_a_loader_in_front_is_the_loader_and_the_unified_kernel_an_application() -> None:
    found = predict(unified(loader=artefact(made.loader())), "sha256")
    assert of(found, "loader")[0].digest == image_digest(parse_image(made.loader()), "sha256")
    assert len(of(found, "application")) == 2


def test_a_boot_loader_that_reads_the_image_measures_its_command_line_in_some_versions() -> None:
    found = predict(unified(loader=artefact(made.loader("systemd-boot"))), "sha256")
    (line,) = [one for one in found.claims if one.component.pcr == 12]
    assert (line.component.claim, line.component.value, line.sure) == ("kernel-command-line", LINE, False)


def test_the_boot_loader_s_configuration_is_measured_in_some_versions() -> None:
    loader = artefact(made.loader("systemd-boot"))
    found = predict(unified(loader=loader, loader_conf=artefact(b"timeout 0\n"), disk=artefact(made.disk())), "sha256")
    (file,) = [one for one in found.claims if one.component.claim == "boot-file"]
    assert (file.component.pcr, file.component.digest, file.sure) == (5, sha256(b"timeout 0\n").digest(), False)
    assert register(found, 5) is None
    assert any("--loader-conf" in remark for remark in predict(unified(loader=loader), "sha256").remarks)


@pytest.mark.parametrize(
    ("started", "style"),
    [
        ((), Style.DIRECT),
        ((made.loader("systemd-boot"),), Style.SYSTEMD_BOOT),
        ((made.loader("shim"), made.loader("grub")), Style.GRUB),
    ],
    ids=["kernel", "systemd-boot", "GRUB"],
)
def test_who_starts_the_kernel_is_told_by_the_boot_loader(started: tuple[bytes, ...], style: Style) -> None:
    first, *others = (*map(artefact, started), None)
    wanted = Boot(
        loader=first, applications=tuple(filter(None, others)), kernel=artefact(made.kernel()), line="/vmlinuz initrd="
    )
    assert predict(wanted, "sha256").style is style


def test_systemd_boot_measures_the_whole_line() -> None:
    wanted = Boot(
        loader=artefact(made.loader("systemd-boot")),
        kernel=artefact(made.kernel()),
        initrds=(artefact(b"i"),),
        line="initrd=\\initrd.img ro",
    )
    found = predict(wanted, "sha256")
    handed = sha256("initrd=\\initrd.img ro\0".encode("utf-16-le")).digest()
    assert [(one.pcr, one.digest) for one in of(found, "kernel-command-line")] == [(12, handed), (9, handed)]
    assert of(found, "initrd")[0].digest == sha256(b"i").digest()


KERNEL = artefact(made.kernel())
GRUB = Boot(loader=artefact(made.loader("grub")), kernel=KERNEL, line="/vmlinuz ro")
SYSTEMD = Boot(loader=artefact(made.loader("systemd-boot")), kernel=KERNEL, initrds=(artefact(b"i"),))


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (Boot(), "predict-nothing"),
        (Boot(loader=artefact(b"text")), "image-header"),
        (Boot(kernel=artefact(b"\x7fELF")), "image-header"),
        (Boot(applications=(KERNEL,)), "predict-missing"),
        (Boot(line="ro"), "predict-missing"),
        (Boot(initrds=(KERNEL,)), "predict-missing"),
        (unified(kernel=KERNEL), "predict-conflict"),
        (unified(initrds=(artefact(b"i"),)), "predict-conflict"),
        (Boot(loader=artefact(made.gateway()), kernel=KERNEL), "predict-conflict"),
        (unified(commands=("insmod x",)), "predict-conflict"),
        (unified(style=Style.GRUB), "predict-conflict"),
        (unified(loader_conf=artefact(b"x")), "predict-conflict"),
        (replace(GRUB, loader=artefact(made.loader("shim"))), "predict-style"),
        (replace(GRUB, line=None), "predict-missing"),
        (replace(GRUB, line="ro quiet"), "predict-missing"),
        (SYSTEMD, "predict-missing"),
        (replace(SYSTEMD, initrds=SYSTEMD.initrds * 2, line="initrd=x"), "predict-conflict"),
        (Boot(unified=KERNEL), "uki-kernel"),
    ],
)
def test_artefacts_that_do_not_go_together_are_refused(wanted: Boot, code: str) -> None:
    assert refused(wanted) == code


def signed(signer: made.Authority) -> Artefact:
    digest = image_digest(parse_image(made.gateway(LINE)), "sha256")
    return artefact(made.gateway(LINE, certificates=signer.signature(digest)), "gateway.efi")


def keys(signer: made.Authority) -> tuple[Database, ...]:
    lists = signature_database(signer.der, owner=made.OWNER)
    return (*(Database(name, lists, "key.pem") for name in ("PK", "KEK", "db")), Database("dbx", b"", "dbx"))


def test_the_certificate_that_lets_the_image_run_is_predicted() -> None:
    signer = made.Authority("signer")
    found = predict(Boot(unified=signed(signer), databases=keys(signer), secure_boot=True), "sha256")
    assert [one.value for one in of(found, "secure-boot-authority")] == [f"db sha256:{sha256(signer.der).hexdigest()}"]
    assert register(found, 7) is not None


def test_an_image_that_firmware_would_not_start_is_refused() -> None:
    wanted = Boot(unified=signed(made.Authority("signer")), databases=keys(made.Authority("signer")), secure_boot=True)
    assert refused(wanted) == "predict-conflict"


def test_without_db_the_authority_is_open() -> None:
    found = predict(unified(secure_boot=True), "sha256")
    assert not of(found, "secure-boot-authority")
    assert any("--db" in remark for remark in found.remarks)
    assert register(found, 7) is None
