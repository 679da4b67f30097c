"""Artefacts become a prediction: what evidence of their boot will claim, and the registers that follow from artefacts alone.

Proves that a predicted claim is what `attestd.evidence` reads out of the events that these artefacts lead to. Assumes that
they are what will be booted, in this order. What hardware, firmware or a boot menu decides is not predicted, and said to be open.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from attestd.evidence.boot import PHASES
from attestd.evidence.components import components
from attestd.evidence.types import Component
from attestd.reference import boot
from attestd.reference.boot import Artefact, Log, Style
from attestd.reference.files import ArtefactRefused
from attestd.reference.gpt import partition_table
from attestd.reference.imageauthority import authority
from attestd.reference.pe import Image, parse_image
from attestd.reference.secureboot import Database, variables
from attestd.reference.style import is_shim, is_systemd_boot, style_of
from attestd.reference.uki import UnifiedKernel, unified_kernel
from attestd.tpm.algorithms import hasher
from attestd.tpm.pcr import extend, initial_value

_REGISTERS: Final = frozenset(range(24))
_POLICY_VARIABLES: Final = 5
_FIRMWARE_SAYS_MORE: Final = ("boot-action", "separator", "exit-boot-services")
"""Claims that no artefact decides: they are accepted, and never taken for all that firmware may say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What is to be booted.

    `loader` is what firmware starts, `applications` what is started after it, in order; without them firmware starts the
    `unified` image or the `kernel` itself. `line` is the command line as the boot loader has it, `commands` are others of
    GRUB's, `loader_conf` is the configuration of systemd's boot loader. `disk` is a disk's image, or a backup of its table.
    `secure_boot` is None where it is not known.
    """

    loader: Artefact | None = None
    applications: tuple[Artefact, ...] = ()
    unified: Artefact | None = None
    kernel: Artefact | None = None
    initrds: tuple[Artefact, ...] = ()
    line: str | None = None
    commands: tuple[str, ...] = ()
    disk: Artefact | None = None
    loader_conf: Artefact | None = None
    databases: tuple[Database, ...] = ()
    secure_boot: bool | None = None
    style: Style | None = None


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One claim to come, the artefact it comes from, and whether every boot of these artefacts makes it.

    `text` is what a digest stands for, for people: nothing vouches for it.
    """

    component: Component
    source: str
    sure: bool
    text: str


@dataclass(frozen=True, slots=True)
class Register:
    """A value that a register will have; `when` says at which moment, or on which condition."""

    index: int
    value: bytes
    when: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """What will be measured in `bank`.

    `partial` are claims of which a boot makes others, too; `remarks` are sentences about what is open.
    """

    bank: str
    style: Style | None
    claims: tuple[Foreseen, ...]
    registers: tuple[Register, ...]
    remarks: tuple[str, ...]
    partial: frozenset[str]


def predict(wanted: Boot, bank: str) -> Prediction:
    """Return what a boot will measure.

    *Raises* `ArtefactRefused`: "predict-nothing", "predict-conflict" (artefacts that do not go together), "predict-missing"
    (one without which it cannot be said), "predict-style" (who starts the kernel is not clear), and what reading raises.
    """
    return _Prediction(wanted, bank).finished()


class _Prediction:
    """A prediction while it is made: its log, the registers that are complete in it, and remarks."""

    def __init__(self, wanted: Boot, bank: str) -> None:
        self.wanted = wanted
        self.log = Log(bank)
        self.complete: dict[int, str] = {}
        self.remarks: list[str] = []
        self.partial = set(_FIRMWARE_SAYS_MORE)
        started = (wanted.loader, *wanted.applications, wanted.unified)
        self.started = [(one.name, _image(one)) for one in started if one is not None]
        self.kernel = _image(wanted.kernel) if wanted.kernel is not None else None
        self.systemd_boot = any(is_systemd_boot(image) for _, image in self.started)
        self.style = style_of(wanted.style, [image for _, image in self.started], kernel=self.kernel)
        whole = wanted.unified is not None or self.style is Style.UKI
        self.unified = unified_kernel(self.started[-1][1]) if whole else None

    def finished(self) -> Prediction:
        """Return the prediction. *Raises* `ArtefactRefused`."""
        _require_fitting(self.wanted, self.style, self.unified, systemd_boot=self.systemd_boot)
        self._policy()
        if self.started or self.kernel is not None:
            boot.boot_attempt(self.log)
        self._table()
        self._configuration()
        self._images()
        if self.unified is not None:
            self._unified(self.unified)
        elif self.style is Style.GRUB:
            self._grub()
        elif self.style is not None:
            self._handed_over()
        if self.style is not None:
            boot.leave(self.log)
        if not self.log.measurements:
            raise ArtefactRefused("predict-nothing", "name an artefact: a unified kernel image, a loader, a disk, keys")
        found = tuple(self._claims())
        registers = tuple(self._registers())
        return Prediction(self.log.bank, self.style, found, registers, tuple(self.remarks), frozenset(self.partial))

    def _policy(self) -> None:
        """Expect the variables of Secure Boot, and behind them who lets the images run (PCR 7)."""
        found = variables(self.wanted.databases, on=self.wanted.secure_boot)
        if not found:
            return
        boot.secure_boot_policy(self.log, found)
        images = list(self.started)
        if self.kernel is not None and self.wanted.kernel is not None and self.style is not Style.GRUB:
            images.append((self.wanted.kernel.name, self.kernel))
        if self.wanted.secure_boot and images:
            self._authorities(images)
        elif self.wanted.secure_boot is False and len(found) == _POLICY_VARIABLES:
            self.complete[7] = "on firmware that measures these five variables alone"

    def _authorities(self, images: list[tuple[str, Image]]) -> None:
        """Expect the entries of db that firmware finds, each once. What shim starts it judges by itself."""
        database = next((one for one in self.wanted.databases if one.name == "db"), None)
        if database is None:
            self.remarks.append("secure-boot-authority is open: it takes --db to say which certificate lets images run")
            return
        vouched = any(is_shim(image) for _, image in images) or self.style is Style.GRUB
        entries: dict[bytes, str] = {}
        for name, image in images[:1] if vouched else images:
            entry = authority(image, database.content)
            if entry is None:
                raise ArtefactRefused("predict-conflict", f"{name}: no certificate in db stands behind its signature")
            entries.setdefault(entry, name)
        for entry, name in entries.items():
            boot.authority(self.log, entry, f"{database.source}, for {name}")
        if vouched or self.style is None:
            self.partial.add("secure-boot-authority")
            self.remarks.append(
                "secure-boot-authority is open for what a boot loader starts: shim's level and its maker's certificate"
            )
        elif len({one.name for one in self.wanted.databases}) == _POLICY_VARIABLES - 1:
            self.complete[7] = "on firmware that measures these five variables alone"

    def _table(self) -> None:
        disk = self.wanted.disk
        if disk is None:
            return
        boot.partition_table(self.log, partition_table(disk.data), disk.name)
        if self.style is not None and not self.systemd_boot:
            self.complete[5] = "once the kernel has taken over"

    def _configuration(self) -> None:
        """Expect the configuration of systemd's boot loader (PCR 5)."""
        file = self.wanted.loader_conf
        if file is not None:
            boot.loader_configuration(self.log, file.data, file.name)
        elif self.systemd_boot:
            self.remarks.append(
                "boot-file is open: recent versions of systemd-boot measure loader.conf (--loader-conf)"
            )

    def _images(self) -> None:
        """Expect what firmware and boot loaders start, and then the kernel (PCR 4)."""
        for name, image in self.started:
            self.log.image(image, name)
        self.complete[4] = "when the first boot entry that is tried succeeds"
        if self.kernel is not None and self.wanted.kernel is not None:
            # GRUB asks shim, which measures; without shim it starts a kernel by its own means.
            self.log.image(self.kernel, self.wanted.kernel.name, sure=self.style is not Style.GRUB)
        if self.style in (None, Style.GRUB):
            self.partial |= {"loader", "application"} if self.style is None else set()
            del self.complete[4]

    def _unified(self, unified: UnifiedKernel) -> None:
        """Expect the sections, and what the stub hands to the kernel in them (PCR 11, 4, 12, 9)."""
        name = self.started[-1][0]
        boot.unified_sections(self.log, unified, name)
        self.complete[11] = "when the stub starts the kernel"
        self.log.image(parse_image(unified.kernel), f"{name} .linux", sure=False)
        if self.wanted.secure_boot is None:
            del self.complete[4]
        self._override(unified, name)

    def _override(self, unified: UnifiedKernel, name: str) -> None:
        own = self.wanted.line is None
        line = unified.command_line if own else self.wanted.line
        if not own and line:
            boot.parameters(self.log, line, "--cmdline")
        elif line and self.systemd_boot:
            # Version 252 reads the line out of the image, measures it and hands it on; 257 leaves that to the stub.
            boot.parameters(self.log, line, f"{name} .cmdline", sure=False)
        boot.handover(
            self.log,
            line,
            unified.initrd,
            line_source=f"{name} .cmdline" if own else "--cmdline",
            initrd_source=f"{name} .initrd",
        )
        self.complete[9] = "with a kernel that measures its command line (Linux 6.1 does)"

    def _handed_over(self) -> None:
        """Expect what the kernel's start code measures, and what systemd's boot loader hands on (PCR 12, 9)."""
        line, initrds = self.wanted.line, self.wanted.initrds
        if line and self.style is Style.SYSTEMD_BOOT:
            boot.parameters(self.log, line, "--cmdline")
            self.complete[12] = "without credentials and extensions beside the kernel"
        initrd = initrds[0] if initrds else None
        boot.handover(
            self.log,
            line,
            (initrd.data,) if initrd is not None else (),
            line_source="--cmdline",
            initrd_source=initrd.name if initrd is not None else "",
        )
        self.complete[9] = "with a kernel that measures its command line (Linux 6.1 does)"

    def _grub(self) -> None:
        """Expect GRUB's commands and files (PCR 8, 9), as far as they are named."""
        line, kernel = self.wanted.line, self.wanted.kernel
        if kernel is None or line is None:
            return
        for command in self.wanted.commands:
            boot.grub_command(self.log, command, "--grub-command")
        boot.grub_command(self.log, f"linux {line}", "--cmdline")
        boot.grub_file(self.log, line.partition(" ")[0], kernel.data, kernel.name)
        boot.grub_command_line(self.log, line, "--cmdline")
        for initrd in self.wanted.initrds:
            boot.grub_file(self.log, initrd.name, initrd.data, initrd.name)
        self.partial |= {"grub-command", "boot-file", "application"}
        self.remarks.append(
            "grub-command and boot-file are open but for what was named: learn them, or name each command"
        )

    def _claims(self) -> Iterator[Foreseen]:
        made = {one.event.index: one for one in self.log.measurements}
        for component, _ in components((one.event for one in made.values()), self.log.bank, registers=_REGISTERS):
            one = made[component.event]
            yield Foreseen(component, one.source, one.sure, one.text)

    def _registers(self) -> Iterator[Register]:
        for index, when in sorted(self.complete.items()):
            value = self._replayed(index)
            yield Register(index, value, when)
            if index == 11:
                new = hasher(self.log.bank)
                for phase in PHASES:
                    value = extend(self.log.bank, value, new(phase.encode()).digest())
                    yield Register(index, value, f"after {phase}")

    def _replayed(self, index: int) -> bytes:
        value = initial_value(self.log.bank, index)
        for one in self.log.measurements:
            if one.event.pcr == index and (one.sure or self._measured_all_the_same()):
                value = extend(self.log.bank, value, one.event.digests[0][1])
        return value

    def _measured_all_the_same(self) -> bool:
        """Return whether firmware sees the kernel that a stub starts: under Secure Boot the stub vouches for it instead."""
        return self.wanted.secure_boot is False


def _image(artefact: Artefact) -> Image:
    try:
        return parse_image(artefact.data)
    except ArtefactRefused as error:
        raise ArtefactRefused(error.code, f"{artefact.name}: {error.message}") from None


def _require_fitting(wanted: Boot, style: Style | None, unified: UnifiedKernel | None, *, systemd_boot: bool) -> None:
    """Refuse artefacts of which one would not be measured as the others suggest."""
    if wanted.applications and wanted.loader is None:
        raise ArtefactRefused("predict-missing", "what firmware starts itself is the loader: --loader")
    if unified is not None and (wanted.kernel is not None or wanted.initrds):
        raise ArtefactRefused("predict-conflict", "a unified kernel image has its kernel and ramdisk in it")
    if wanted.kernel is None and unified is None and (wanted.initrds or wanted.line or wanted.commands):
        raise ArtefactRefused("predict-missing", "a ramdisk and a command line belong to a kernel: --kernel")
    if wanted.loader_conf is not None and not systemd_boot:
        raise ArtefactRefused("predict-conflict", "loader.conf is systemd-boot's, and it is not among the images")
    if wanted.commands and style is not Style.GRUB:
        raise ArtefactRefused("predict-conflict", "commands are GRUB's, and it does not start this kernel")
    if unified is not None and wanted.line is not None and unified.command_line is not None:
        _require_override(wanted)
    if wanted.kernel is not None and style is not None:
        _require_line(wanted, style)


def _require_override(wanted: Boot) -> None:
    if wanted.secure_boot is not False:
        raise ArtefactRefused(
            "predict-conflict",
            "the unified kernel image has a command line of its own, and under Secure Boot the stub takes no other: "
            "leave --cmdline out, or say --secure-boot off",
        )


def _require_line(wanted: Boot, style: Style) -> None:
    if style is Style.GRUB:
        if not wanted.line or not wanted.line.startswith(("/", "(")):
            raise ArtefactRefused(
                "predict-missing", "GRUB measures what follows `linux`: the kernel's path and then its command line"
            )
        return
    if len(wanted.initrds) > 1:
        raise ArtefactRefused("predict-conflict", "several ramdisks are measured as one: name the one that they become")
    if style is Style.SYSTEMD_BOOT and wanted.initrds and "initrd=" not in (wanted.line or ""):
        raise ArtefactRefused(
            "predict-missing",
            "systemd-boot hands on the ramdisk's name, too: give the whole line (initrd=\\name and the options, as "
            "/proc/cmdline shows it)",
        )
