"""The story itself, in acts. Each step says beforehand what must come true.

The cast: a reference machine that a person holds to be good; edge-1 and edge-2, two good ones; edge-3, whose kernel is told
to start a shell; edge-4, a genuine machine that nobody announced; edge-5, announced, but with a TPM of a maker that nobody
accepts.
"""

import base64
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from attestd.cli.demo.judging import FELL, arrival, consequences, keys_of, reasons, refusal
from attestd.cli.demo.stage import HOST, Answer, Machine, Stage
from attestd.cli.demo.telling import Step, Telling
from attestd_agent.lab.firmware import BootImage
from attestd_agent.lab.manufacturer import Manufacturer

PROFILE: Final = "edge"
GOOD: Final = BootImage()
SHELL: Final = GOOD.with_command_line(f"{GOOD.command_line} init=/bin/sh")
BACKDOOR: Final = GOOD.with_tampered_kernel()
_AT_ONCE: Final = 2
"""Agents that run at the same moment: the smallest machine that this is shown on has two cores."""

Told = tuple[str, Sequence[str]]
A = TypeVar("A")
B = TypeVar("B")


class Story:
    """The story as it is played: its stage, its audience, and what has happened so far."""

    def __init__(self, stage: Stage, telling: Telling) -> None:
        """Take an empty stage."""
        self._stage = stage
        self._telling = telling
        self._good: Manufacturer = stage.manufacturer("Good Chips")
        self._machines: dict[str, Machine] = {}
        self._steps: list[Step] = []
        self._token = ""
        self._held: dict[str, Any] = {}

    def play(self) -> tuple[Step, ...]:
        """Play all acts and return their steps. *Raises* NotPossible, LabError."""
        self._telling.begin(self._stage)
        for act in (
            self._a_verifier,
            self._what_is_good,
            self._who_is_expected,
            self._first_boot,
            self._a_person_decides,
            self._a_trusted_machine_changes,
            self._repaired,
        ):
            act()
        return tuple(self._steps)

    def stay(self) -> None:
        """Let the machines that are trusted go on proving themselves, until Ctrl-C."""
        for name in ("edge-1", "edge-2", "edge-4"):
            self._stage.keep_proving(self._machines[name])
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return

    # --- The acts -----------------------------------------------------------------------------------------------------

    def _a_verifier(self) -> None:
        self._telling.act("1  A verifier", "Two commands. Every key is made now, and nothing has a default password.")
        self._step("attestd init", "11 files made", self._init, doing="making keys and certificates")
        self._step("attestd serve", "answers over TLS 1.3", self._serve, doing="starting")

    def _init(self) -> Told:
        gateway = base64.b64encode(X25519PrivateKey.generate().public_key().public_bytes_raw()).decode()
        options = ["--name", HOST, "--name", "127.0.0.1", "--port", str(self._stage.port)]
        made = self._stage.operate("init", *options, "--wireguard-public-key", gateway)
        return f"{len(made['files'])} files made", ()

    def _serve(self) -> Told:
        (self._stage.verifier / "anchors" / "good-chips.pem").write_bytes(self._good.anchors)
        self._stage.start_verifier()
        return "answers over TLS 1.3", (f"{self._stage.url}, accepts TPMs made by {self._good.name}",)

    def _what_is_good(self) -> None:
        self._telling.act(
            "2  What is good",
            "A person holds one machine to be good. It boots; what its TPM signs becomes a profile, which an operator signs.",
        )
        self._step("reference", "a profile is learnt", self._learn, doing="booting, quoting, learning")
        self._step("operator", "the profile is active", self._activate, doing="signing")

    def _learn(self) -> Told:
        place = self._stage.place
        machine = self._stage.machine("reference", self._good, GOOD)
        self._stage.agent(machine, "quote", "--output", place / "evidence")
        learnt = self._stage.learn(place / "evidence", place / f"{PROFILE}.yaml")
        return "a profile is learnt", (
            f"{learnt['claims']} claims: firmware, Secure Boot, boot loader, kernel, its command line, …",
        )

    def _activate(self) -> Told:
        change = self._stage.operate("profile", "add", self._stage.place / f"{PROFILE}.yaml", "--activate")
        return "the profile is active", (f"change {change['sequence']}, signed by {', '.join(change['approved_by'])}",)

    def _who_is_expected(self) -> None:
        self._telling.act(
            "3  Who is expected",
            "Five machines are switched on. The owner announces four by their TPM's public key; edge-4 was forgotten.",
        )
        self._step("machines", "5 have booted", self._build, doing="making TPMs and booting")
        self._step("operator", "4 machines are announced", self._announce, doing="signing the inventory")

    def _build(self) -> Told:
        other = self._stage.manufacturer("Unknown Chips")
        cast = (
            ("edge-1", self._good, GOOD),
            ("edge-2", self._good, GOOD),
            ("edge-3", self._good, SHELL),
            ("edge-4", self._good, GOOD),
            ("edge-5", other, GOOD),
        )
        made = [self._stage.machine(name, maker, image) for name, maker, image in cast]
        for machine in _together(self._stage.identified, made):
            self._machines[machine.name] = machine
        return f"{len(made)} have booted", ()

    def _announce(self) -> Told:
        file = self._stage.place / "inventory.csv"
        named = [machine for name, machine in self._machines.items() if name != "edge-4"]
        rows = [f"{one.identity['ek_public_sha256']},{one.name},north,{PROFILE}" for one in named]
        file.write_text("\n".join(["ek_public_sha256,name,site,profile", *rows, ""]))
        change = self._stage.operate("inventory", "import", file)
        self._token = self._stage.operate("token", "create", "gateway", "--scope", "trust:read")["token"]
        return f"{len(named)} machines are announced", (f"change {change['sequence']}, signed by the operator",)

    def _first_boot(self) -> None:
        self._telling.act(
            "4  First boot",
            "Nobody types anything on a machine. Each finds the verifier, proves its TPM and what it booted, and is judged.",
        )
        names = tuple(self._machines)
        with self._telling.working("five machines enrol …"):
            answers = dict(zip(names, _together(self._enrol, names), strict=True))
        for name in ("edge-1", "edge-2"):
            self._arrived(name, answers[name])
        for name, expected, claim in (
            ("edge-3", "refused: claim-mismatch kernel-command-line", "kernel-command-line"),
            ("edge-4", "waits for a person: device-unannounced", ""),
            ("edge-5", "refused: ek-chain-untrusted", ""),
        ):
            answer = answers[name]
            self._tell(Step(name, expected, refusal(answer, claim), answer.seconds, reasons(answer, claim)))

    def _a_person_decides(self) -> None:
        self._telling.act(
            "5  A person decides",
            "edge-4 is genuine, but nobody said that it belongs here. An operator announces it; its own proof does the rest.",
        )
        self._step("operator", "pending → admitted", self._approve, doing="announcing edge-4")
        with self._telling.working("edge-4: enrolling …"):
            answer = self._enrol("edge-4")
        self._arrived("edge-4", answer)

    def _approve(self) -> Told:
        where = ("--name", "edge-4", "--site", "south", "--profile", PROFILE)
        change = self._stage.operate("device", "approve", self._machines["edge-4"].device_id, *where)
        moves = [f"{moved['from']} → {moved['to']}" for moved in change["moved"]]
        return ", ".join(moves) or "nothing moved", (f"change {change['sequence']}, signed by the operator",)

    def _a_trusted_machine_changes(self) -> None:
        self._telling.act(
            "6  A trusted machine changes",
            "An update puts a backdoor into edge-2's kernel: same name, same version. It reboots, and its next proof is due.",
        )
        machine = self._machines["edge-2"]
        self._held = self._stage.operate("device", "show", machine.device_id)
        begin = time.monotonic()
        with self._telling.working("edge-2: rebooting and proving itself …"):
            machine.device.boot(BACKDOOR)
            answer = self._stage.agent(machine, "attest")
        spent, why = time.monotonic() - begin, reasons(answer, "kernel")
        self._tell(Step("edge-2", "refused: claim-mismatch kernel", refusal(answer, "kernel"), spent, why))
        self._step(
            "gateway",
            FELL,
            lambda: consequences(self._stage, machine, self._token, self._held),
            doing="asking the verifier",
        )

    def _repaired(self) -> None:
        self._telling.act(
            "7  Repaired",
            "The good kernel is back. Neither silence nor asking restores trust: a new enrolment does, and it brings new keys.",
        )
        begin = time.monotonic()
        with self._telling.working("edge-2: rebooting and enrolling …"):
            self._machines["edge-2"].device.boot(GOOD)
            answer = self._enrol("edge-2")
        self._arrived("edge-2", Answer(answer.exit_code, answer.document, time.monotonic() - begin))
        self._step("edge-2", "new certificate, new VPN key", self._compare, doing="comparing keys")

    def _compare(self) -> Told:
        now = keys_of(self._stage.operate("device", "show", self._machines["edge-2"].device_id))
        fresh = len(now) == 2 and not now & keys_of(self._held)
        return ("new certificate, new VPN key" if fresh else "an old key came back"), ()

    # --- Parts --------------------------------------------------------------------------------------------------------

    def _step(self, subject: str, expected: str, work: Callable[[], Told], *, doing: str) -> None:
        """Do one thing and tell how it went. `work` returns what came true, and the reasons."""
        begin = time.monotonic()
        with self._telling.working(f"{subject}: {doing} …"):
            actual, details = work()
        self._tell(Step(subject, expected, actual, time.monotonic() - begin, tuple(details)))

    def _tell(self, step: Step) -> None:
        self._steps.append(step)
        self._telling.step(step)

    def _enrol(self, name: str) -> Answer:
        return self._stage.agent(self._machines[name], "enroll")

    def _arrived(self, name: str, answer: Answer) -> None:
        self._tell(arrival(self._stage, self._machines[name], answer, self._token))


def _together(work: Callable[[A], B], items: Iterable[A]) -> list[B]:
    """Do the same for several machines, a few at once; return the results in order."""
    with ThreadPoolExecutor(_AT_ONCE) as workers:
        return list(workers.map(work, items))
