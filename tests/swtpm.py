"""Software devices for tests: real TPM commands against a software TPM.

A pytest plugin; a test module that wants it says::

    from swtpm import SWTPM_MARKS

    pytest_plugins = ("swtpm",)
    pytestmark = SWTPM_MARKS

Making a TPM takes about half a second, so a test gets one only where it asks for it. There are no assertions here, so
that the module can be imported before pytest sees it (PYTEST_DONT_REWRITE).
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from attestd_agent.lab.device import SoftwareDevice
from attestd_agent.lab.firmware import BootImage
from attestd_agent.lab.manufacturer import INSTALL, Manufacturer
from attestd_agent.lab.swtpm import SoftwareTpm
from attestd_agent.tpm_esys import EsysTpm, LabTpm

_MISSING = [tool for tool in ("swtpm", "swtpm_setup", "swtpm_localca") if shutil.which(tool) is None]

SWTPM_MARKS = [
    pytest.mark.swtpm,
    pytest.mark.skipif(bool(_MISSING), reason=f"{', '.join(_MISSING)} missing: {INSTALL}"),
]


class DeviceFactory(Protocol):
    """Makes a software device, booted or still off; it is switched off and removed after the test."""

    def __call__(
        self,
        name: str = "device",
        *,
        maker: Manufacturer | None = None,
        banks: tuple[str, ...] = ("sha256",),
        image: BootImage | None = None,
        booted: bool = True,
    ) -> SoftwareDevice: ...


@pytest.fixture(scope="session")
def lab_directory() -> Iterator[Path]:
    """A short directory for the whole run, so that sockets fit into it."""
    with tempfile.TemporaryDirectory(prefix="lab-") as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def manufacturer(lab_directory: Path) -> Manufacturer:
    """The manufacturer whose TPMs a verifier under test trusts."""
    return Manufacturer(lab_directory / "maker", "Laboratory One")


@pytest.fixture(scope="session")
def other_manufacturer(lab_directory: Path) -> Manufacturer:
    """A manufacturer whom nobody trusts."""
    return Manufacturer(lab_directory / "other", "Laboratory Two")


@pytest.fixture
def swtpm_device(manufacturer: Manufacturer, lab_directory: Path) -> Iterator[DeviceFactory]:
    """A factory of devices, each with a TPM of its own."""
    with ExitStack() as stack:

        def make(
            name: str = "device",
            *,
            maker: Manufacturer | None = None,
            banks: tuple[str, ...] = ("sha256",),
            image: BootImage | None = None,
            booted: bool = True,
        ) -> SoftwareDevice:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=lab_directory, prefix="d-")))
            tpm = SoftwareTpm(place, maker or manufacturer, banks=banks).manufacture()
            stack.callback(tpm.close)
            device = SoftwareDevice(name, tpm, image)
            if booted:
                device.boot()
            return device

        yield make


@pytest.fixture
def device(swtpm_device: DeviceFactory) -> SoftwareDevice:
    """One device that has booted the healthy default image."""
    return swtpm_device()


@pytest.fixture
def tpm(device: SoftwareDevice) -> EsysTpm:
    """The TPM of :func:`device`, as the agent uses it."""
    return device.open_tpm()


@pytest.fixture
def lab_tpm(device: SoftwareDevice) -> LabTpm:
    """The TPM of :func:`device`, as firmware and an owner use it."""
    return device.lab_tpm()
