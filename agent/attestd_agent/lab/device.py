"""A device of software: a software TPM, a simulated boot, and the files that a kernel would show. FOR LABORATORIES ONLY.

Every measurement goes through the TPM itself, so a quote of this device is as real as its TPM is not.
"""

from pathlib import Path

from attestd_agent.lab import ima
from attestd_agent.lab.firmware import Boot, BootImage, simulate_boot
from attestd_agent.lab.swtpm import SoftwareTpm
from attestd_agent.tpm_esys import EsysTpm, LabTpm


class SoftwareDevice:
    """One machine: it boots an image, and then an agent can run on it.

    Its files lie beside its TPM: ``event_log`` for securityfs' binary_bios_measurements and ``ima_list`` for
    binary_runtime_measurements.
    """

    def __init__(self, name: str, tpm: SoftwareTpm, image: BootImage | None = None) -> None:
        self.name = name
        self.tpm = tpm
        self.image = image or BootImage()
        self.last_boot: Boot | None = None
        self._ima: tuple[ima.ImaEntry, ...] = ()

    @property
    def event_log(self) -> Path:
        """The boot event log of the last boot."""
        return self.tpm.directory / "binary_bios_measurements"

    @property
    def ima_list(self) -> Path:
        """The runtime list since the last boot."""
        return self.tpm.directory / "binary_runtime_measurements"

    @property
    def state(self) -> Path:
        """A directory for the agent's own state, which outlives reboots."""
        return self.tpm.directory / "agent"

    @property
    def tcti(self) -> str:
        """The address of its TPM."""
        return self.tpm.tcti

    def open_tpm(self) -> EsysTpm:
        """Return the TPM as the agent uses it."""
        return EsysTpm(self.tpm.tcti)

    def lab_tpm(self) -> LabTpm:
        """Return the TPM as firmware and an owner use it."""
        return LabTpm(self.tpm.tcti)

    def boot(self, image: BootImage | None = None) -> Boot:
        """Boot an image (the last one where none is given): reset the TPM, measure every event, write the log."""
        self.image = image or self.image
        if self.tpm.running:
            self.tpm.reset()
        else:
            self.tpm.power_on()
        boot = simulate_boot(self.image, banks=self.tpm.banks)
        self.lab_tpm().extend(boot.extends)
        self.event_log.write_bytes(boot.event_log)
        self.ima_list.unlink(missing_ok=True)
        self.last_boot, self._ima = boot, ()
        return boot

    def measure(self, *files: ima.ImaEntry, convention: ima.Convention = "per_bank") -> None:
        """Measure files as IMA does; the first call of a boot puts boot_aggregate in front."""
        tpm = self.lab_tpm()
        if not self._ima:
            values = tpm.read_pcrs("sha256", tuple(range(10)))
            files = (ima.boot_aggregate(tuple(value for _, value in values)), *files)
        tpm.extend(ima.extends(files, banks=self.tpm.banks, convention=convention))
        self._ima = (*self._ima, *files)
        self.ima_list.write_bytes(ima.encode_list(self._ima))
