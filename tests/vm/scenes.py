"""What happens in the test with real boots, scene by scene; each step says beforehand what must come true."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import image
import kernel
import profile_of
import system
import uki
from machine import Boot, VirtualMachine

from attestd.cli.demo import judging
from attestd.cli.demo.stage import Answer, Machine, NotPossible, Stage
from attestd.cli.demo.telling import Step, Telling
from attestd_agent.lab.device import SoftwareDevice
from attestd_agent.lab.swtpm import SoftwareTpm

TOOLS: Final = (image.ToolFailed, kernel.NoKernel, system.NotInstalled, uki.NotAStub, profile_of.NoProfile)
"""What is raised where a program or a file that the image is made of is missing or unfit."""

PROFILE: Final = "gateway"
NAME: Final = "verifier.fleet.example"
ADDED: Final = "mitigations=off"
"""The argument that an attacker adds to the kernel's command line."""
ATTACK: Final = "and what an attacker wants"
_STUB: Final = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
_HOST: Final = "10.0.2.2"  # QEMU's user network: the loopback interface of this computer
_FELL: Final = "not trusted, certificate revoked"

Told = tuple[str, tuple[str, ...]]


def fresh(place: Path) -> Path:
    """Remove what the last run left at a place, and return it."""
    shutil.rmtree(place, ignore_errors=True)
    return place.absolute()


@dataclass(frozen=True, slots=True)
class Expected:
    """What a refusal must name: claim and component, the content that was measured; `alone`: and nothing else."""

    claim: str
    component: str
    content: bytes
    alone: bool

    def names(self, finding: dict[str, Any]) -> bool:
        """Return whether a finding is about this."""
        return finding["claim"] == self.claim and str(finding["component"]).startswith(self.component)


class Scenes:
    """The scenes as they are played: the stage, the audience, the machines, and what has happened so far."""

    def __init__(self, stage: Stage, telling: Telling, *, packages: Path) -> None:
        """Take an empty stage and a directory with a kernel and busybox."""
        self.steps: list[Step] = []
        self.last_serial: Path | None = None
        self._stage = stage
        self._telling = telling
        self._packages = packages
        self._maker = stage.manufacturer("Good Chips")
        self._disks: dict[str, Path] = {}
        self._machines: dict[str, VirtualMachine] = {}
        self._edge: Machine | None = None
        self._token = ""
        self._tampered = b""
        self._held: dict[str, Any] = {}

    def play(self, *, smoke: bool) -> None:
        """Play them all, or only the first refusal. *Raises* NotPossible, BootFailed, LabError, one of TOOLS."""
        self._prepare()
        self._learn()
        self._good("3  The machine boots what is good", "edge-1 has another TPM, and was announced by it.", "good")
        self._tampered_command_line()
        if not smoke:
            self._tampered_file()
            self._good("6  Repaired", "The good disk is back: a new enrolment restores trust.", "repaired")

    # --- The scenes ---------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._telling.act(
            "1  A verifier and an image", "The image is made of the distribution's packages and this checkout."
        )
        self._step("verifier", "answers over TLS 1.3", self._serve, doing="making keys, starting")
        self._step("image", "three disks", self._build, doing="copying, compiling, packing")

    def _serve(self) -> Told:
        stage = self._stage
        names = [word for name in ("localhost", "127.0.0.1", NAME) for word in ("--name", name)]
        stage.operate("init", *names, "--port", str(stage.port))
        (stage.verifier / "anchors" / "good-chips.pem").write_bytes(self._maker.anchors)
        stage.start_verifier()
        self._token = stage.operate("token", "create", "vm-test", "--scope", "trust:read")["token"]
        return "answers over TLS 1.3", ()

    def _build(self) -> Told:
        place, cache = self._stage.place, self._packages.parent
        found = kernel.kernel_in(self._packages)
        busybox = system.busybox_in(self._packages)
        base = system.interpreter_tree(cache)
        root = system.root_tree(base, busybox, place / "root", configuration=self._configuration())
        release = Path("/etc/os-release").read_bytes()
        parts = image.Parts(_STUB, release, found, busybox, system.GUEST / "initrd", root)
        changed = place / "root-tampered"
        shutil.copytree(root, changed, symlinks=True)
        executed = changed / system.EXECUTED
        self._tampered = executed.read_bytes() + f"echo '{ATTACK}'\n".encode()
        executed.write_bytes(self._tampered)
        self._disks = {
            "good": image.build(parts, place / "good"),
            "command-line": image.build(
                parts.with_command_line(f"{parts.command_line} {ADDED}"), place / "command-line"
            ),
            "file": image.build(parts.with_root(changed), place / "file"),
        }
        shutil.rmtree(changed)
        size = sum(path.stat().st_blocks * 512 for path in self._disks.values()) // 1024 // 1024
        return "three disks", (
            f"Linux {found.release}, {_version(_STUB)}, {len(system.files_of(root))} files, {size} MiB",
        )

    def _configuration(self) -> dict[str, bytes]:
        stage = self._stage
        agent = f'server = "https://{NAME}:{stage.port}"\nanchor = "/etc/attestd/anchor.pem"\n'
        return {
            "etc/attestd/agent.toml": agent.encode(),
            "etc/attestd/anchor.pem": stage.anchor.read_bytes(),
            "etc/hosts": f"127.0.0.1 localhost\n{_HOST} {NAME}\n".encode(),
            "etc/nsswitch.conf": b"hosts: files\n",
            "etc/passwd": b"root:x:0:0:root:/run:/bin/sh\n",
        }

    def _learn(self) -> None:
        self._telling.act(
            "2  What is good", "A reference machine boots the good disk. Nobody announced it: it is told to wait."
        )
        machine = self._machine("reference")
        boot, answer = self._boot(machine, "good", "reference")
        expected = "waits for a person: device-unannounced"
        self._tell(Step("reference", expected, judging.refusal(answer), boot.seconds, ()))
        if not image.read(machine.state, "/evidence/", machine.place):
            raise NotPossible("the reference machine wrote no evidence")
        evidence = machine.place / "evidence"
        self._step("reference", "measured what was predicted", lambda: self._compare(evidence), doing="comparing")
        self._step("operator", "the profile is active", lambda: self._activate(evidence), doing="predicting, signing")

    def _compare(self, evidence: Path) -> Told:
        """Hold the registers of the first boot against those that follow from the artefacts."""
        foretold = profile_of.foretold(self._artefacts)
        if not foretold.registers:
            return "nothing was predicted", ()
        wrong = foretold.wrong(evidence)
        if wrong:
            return f"measured something else in PCR {wrong}", ()
        return "measured what was predicted", (
            f"PCR {', '.join(map(str, foretold.registers))}, from the artefacts alone",
        )

    def _activate(self, evidence: Path) -> Told:
        profile = self._stage.place / f"{PROFILE}.yaml"
        details = profile_of.write(self._artefacts, evidence, profile)
        self._stage.operate("profile", "add", profile, "--activate")
        return "the profile is active", details

    @property
    def _artefacts(self) -> profile_of.Artefacts:
        disk = self._disks["good"]
        return profile_of.Artefacts(disk.with_name(image.IMAGE), disk, disk.with_name(image.INITRD))

    def _good(self, title: str, text: str, label: str) -> None:
        self._telling.act(title, text)
        if self._edge is None:
            self._step("operator", "edge-1 is announced", self._announce, doing="making a TPM, signing")
        boot, answer = self._boot(self._machines["edge-1"], "good", label)
        self._step("edge-1", "trusted, with a certificate", lambda: self._arrived(boot, answer), doing="asking")

    def _announce(self) -> Told:
        self._machine("edge-1")
        file = self._stage.place / "inventory.csv"
        key = self._device.identity["ek_public_sha256"]
        file.write_text(f"ek_public_sha256,name,site,profile\n{key},edge-1,north,{PROFILE}\n")
        self._stage.operate("inventory", "import", file)
        return "edge-1 is announced", ()

    def _arrived(self, boot: Boot, answer: Answer) -> Told:
        told = judging.trust(self._stage, self._device, self._token)
        self._held = self._stage.operate("device", "show", self._device.device_id)
        serials = [one["serial"] for one in self._held["certificates"] if one["revoked_at"] is None]
        came = {
            "the agent says so": answer.exit_code == 0 and answer.document.get("trusted"),
            "the verifier says so": told["trusted"],
            "a certificate": len(serials) == 1,
            "not revoked": not {int(serial, 16) for serial in serials} & judging.revoked(self._stage),
            "version 1 ran": boot.said("collect") == "version 1",
        }
        lacking = ", ".join(name for name, held in came.items() if not held)
        if lacking:
            return f"{judging.refusal(answer)} (lacks: {lacking})", _findings(answer)
        return "trusted, with a certificate", (
            f"{boot.seconds:.1f} s from power on to power off",
            f"certificate {serials[0]}",
        )

    def _tampered_command_line(self) -> None:
        title = f"4  A tampered command line: {ADDED}"
        self._telling.act(title, "Somebody made a kernel image with one more argument, and put it on edge-1's disk.")
        boot, answer = self._boot(self._machines["edge-1"], "command-line", "command-line")
        self._happened("it was booted", boot.said("command line").split()[-1:] == [ADDED])
        # The stub measures its section .cmdline with the NUL that ends it, into PCR 11 (systemd-stub(7)).
        measured = f"{image.COMMAND_LINE} {ADDED}\0".encode()
        self._refused(boot, answer, Expected("kernel-command-line", ".cmdline", measured, alone=False))

    def _tampered_file(self) -> None:
        title = f"5  A tampered file: /{system.EXECUTED}"
        self._telling.act(title, "Kernel and command line are the good ones; one file on the disk has one line more.")
        boot, answer = self._boot(self._machines["edge-1"], "file", "file")
        self._happened("it was executed", ATTACK in boot.serial.read_text(errors="replace"))
        self._refused(boot, answer, Expected("runtime", f"/{system.EXECUTED}", self._tampered, alone=True))

    # --- Parts --------------------------------------------------------------------------------------------------------

    @property
    def _device(self) -> Machine:
        if self._edge is None:
            raise NotPossible("edge-1 was not made")
        return self._edge

    def _machine(self, name: str) -> VirtualMachine:
        """Make a machine with a TPM of its own; of edge-1 the operator learns the key, as from a delivery note."""
        tpm = SoftwareTpm(self._stage.place / name, self._maker).manufacture()
        if name == "edge-1":
            with tpm:
                self._edge = self._stage.identified(Machine(SoftwareDevice(name, tpm)))
                tpm.power_off()
        self._machines[name] = VirtualMachine(tpm)
        return self._machines[name]

    def _boot(self, machine: VirtualMachine, disk: str, label: str) -> tuple[Boot, Answer]:
        """Boot a machine; return the boot and what its agent answered."""
        self.last_serial = machine.place / f"{label}.serial.log"
        with self._telling.working(f"{machine.place.name}: booting …"):
            boot = machine.boot(self._disks[disk], label)
        file = machine.place / f"{label}.answer.json"
        image.read(machine.state, "/answer.json", file)
        try:
            document = json.loads(file.read_text())
            return boot, Answer(int(boot.said("exit code")), document, boot.seconds)
        except (OSError, ValueError) as error:
            raise NotPossible(f"{machine.place.name} left no answer of its agent: {error}; see {boot.serial}") from None

    def _happened(self, what: str, true: bool) -> None:
        """Tell whether an attack took place at all: without it the refusal behind it would show nothing."""
        self._tell(Step("attacker", what, what if true else f"not so: {what}", 0.0))

    def _refused(self, boot: Boot, answer: Answer, expected: Expected) -> None:
        """Tell what the machine was told, what the verifier saw, and what is left of the machine's trust."""
        findings = answer.document.get("findings") or ()
        actual = judging.refusal(answer, expected.claim)
        if answer.exit_code != 1:
            actual += f", with exit code {answer.exit_code}"
        if not any(expected.names(one) for one in findings):
            actual += f", without naming {expected.component}"
        if expected.alone and len(findings) != 1:
            actual += f", among {len(findings)} findings"
        self._tell(Step("edge-1", f"refused: claim-mismatch {expected.claim}", actual, boot.seconds, _findings(answer)))
        self._step("verifier", "saw what was put there", lambda: self._seen(expected), doing="reading its log")
        self._step("gateway", _FELL, self._fallen, doing="asking the verifier")

    def _seen(self, expected: Expected) -> Told:
        """Return whether the verifier's record of the refusal has the digest of what the attacker made."""
        shown = self._stage.operate("device", "show", self._device.device_id)
        found = [one for one in shown["cause"]["findings"] if expected.names(one)]
        digest = hashlib.sha256(expected.content).hexdigest()
        if not any(str(one["actual"]).removeprefix("sha256:") == digest for one in found):
            return f"saw {[one['actual'] for one in found]}, not {digest}", ()
        return "saw what was put there", (f"{found[0]['component']}: sha256 {digest[:16]}…, in PCR {found[0]['pcr']}",)

    def _fallen(self) -> Told:
        told = judging.trust(self._stage, self._device, self._token)
        revoked = judging.revoked(self._stage)
        serials = {int(one["serial"], 16) for one in self._held["certificates"]}
        left = {"still trusted": told["trusted"], "not revoked": not serials or not serials <= revoked}
        remains = ", ".join(name for name, so in left.items() if so)
        return remains or _FELL, (f"state {told['state']}; GET /v1/crl lists its certificate",) * (not remains)

    def _step(self, subject: str, expected: str, work: Callable[[], Told], *, doing: str) -> None:
        begin = time.monotonic()
        with self._telling.working(f"{subject}: {doing} …"):
            actual, details = work()
        self._tell(Step(subject, expected, actual, time.monotonic() - begin, details))

    def _tell(self, step: Step) -> None:
        self.steps.append(step)
        self._telling.step(step)


def _findings(answer: Answer) -> tuple[str, ...]:
    """Return one line for each finding that the machine was told, the first six."""
    found = answer.document.get("findings") or ()
    lines = [f"{one['code']} {one['claim']}, PCR {one['pcr']}: {one['component']}" for one in found]
    return (*lines[:6], *([f"and {len(lines) - 6} more"] if len(lines) > 6 else ()))


def _version(stub: Path) -> str:
    """Return the stub's own words about itself."""
    begin, end = b"#### LoaderInfo: ", b" ####"
    data = stub.read_bytes()
    return data.partition(begin)[2].partition(end)[0].decode(errors="replace") if begin in data else stub.name
