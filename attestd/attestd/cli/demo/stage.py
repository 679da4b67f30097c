"""What the story is played on: a directory, a verifier as a process, machines, an operator, a relying party.

Everything goes through the interface that the world has: the command line, HTTPS under the verifier's anchor, the agent's
own process with the TPM's address. Whatever was started here ends with the stage.
"""

import http.client
import io
import json
import logging
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self

from attestd_agent.lab.device import SoftwareDevice
from attestd_agent.lab.firmware import BootImage
from attestd_agent.lab.manufacturer import LabError, Manufacturer
from attestd_agent.lab.swtpm import SoftwareTpm

HOST: Final = "localhost"
START_SECONDS: Final = 30.0
AGENT_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05
_VERIFIER: Final = "import sys; from attestd.cli.main import main; sys.argv[0] = 'attestd'; main()"


class NotPossible(Exception):
    """The demonstration cannot go on here; the message says what is missing or what failed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one run of the agent said: its exit code, its JSON, and how many seconds it took."""

    exit_code: int
    document: dict[str, Any]
    seconds: float


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine with a software TPM, and who it is once it was asked."""

    device: SoftwareDevice
    identity: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return its name."""
        return self.device.name

    @property
    def device_id(self) -> str:
        """Return the id that its endorsement key gives it."""
        return str(self.identity["device_id"])


class Stage:
    """Use `Stage.at` in a `with` statement."""

    def __init__(self, place: Path, stack: ExitStack) -> None:
        """Take an empty directory, and what will end everything that is started here."""
        self.place = place
        self.verifier = place / "verifier"
        self.port = _free_port()
        self._stack = stack
        self._context: ssl.SSLContext | None = None

    @classmethod
    @contextmanager
    def at(cls, directory: Path | None) -> Iterator[Self]:
        """Open a stage in a new directory (a temporary one by default, removed at the end). *Raises* NotPossible."""
        for tool in ("swtpm", "swtpm_setup", "swtpm_localca"):
            if shutil.which(tool) is None:
                raise NotPossible(f"{tool} is not installed: apt-get install swtpm swtpm-tools")
        with ExitStack() as stack:
            place = _new_directory(directory, stack)
            # What every software TPM shouts in a log, the story says once and in its first line.
            logging.getLogger("attestd_agent.lab").setLevel(logging.ERROR)
            try:
                yield cls(place, stack)
            except LabError as error:
                raise NotPossible(str(error)) from None

    @property
    def url(self) -> str:
        """Return the verifier's address."""
        return f"https://{HOST}:{self.port}"

    @property
    def anchor(self) -> Path:
        """Return the certificate by which everybody here verifies the verifier."""
        return self.verifier / "tls" / "anchor.pem"

    # --- The operator -------------------------------------------------------------------------------------------------

    def operate(self, *arguments: str | Path) -> Any:
        """Run one command of `attestd` for the verifier and return its JSON. *Raises* NotPossible where it fails."""
        from attestd.cli.main import app

        line = [str(argument) for argument in (*arguments, "--directory", self.verifier, "--json")]
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = app(line, standalone_mode=False)
        if code:
            raise NotPossible(f"attestd {' '.join(line[:2])} ended with {code}: {err.getvalue().strip()[-600:]}")
        return json.loads(out.getvalue())

    def learn(self, evidence: Path, output: Path) -> Any:
        """Run `attestd profile learn`, which needs no verifier, and return its JSON."""
        from attestd.cli.main import app

        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = app(["profile", "learn", str(evidence), "-o", str(output), "--json"], standalone_mode=False)
        if code:
            raise NotPossible(f"attestd profile learn ended with {code}: {err.getvalue().strip()[-600:]}")
        return json.loads(out.getvalue())

    def start_verifier(self) -> None:
        """Start `attestd serve` and return when it answers over TLS. *Raises* NotPossible with the end of its log."""
        log = self.place / "verifier.log"
        command = [sys.executable, "-c", _VERIFIER, "serve", "--directory", str(self.verifier)]
        process = self._start(command, log)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise NotPossible(f"attestd serve did not start: {log.read_text(errors='replace').strip()[-600:]}")
            time.sleep(_POLL_SECONDS)

    def _answers(self) -> bool:
        try:
            return self.ask("/v1/health")[0] == 200
        except OSError:
            return False

    def _start(self, command: list[str], log: Path) -> "subprocess.Popen[bytes]":
        file: IO[bytes] = self._stack.enter_context(log.open("ab"))
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        self._stack.callback(_end, process)
        return process

    # --- A relying party ------------------------------------------------------------------------------------------------

    def ask(self, path: str, token: str = "") -> tuple[int, bytes]:
        """Ask the verifier over HTTPS and return (status, body). *Raises* OSError."""
        if self._context is None:
            self._context = ssl.create_default_context(cafile=str(self.anchor))
        connection = http.client.HTTPSConnection(HOST, self.port, timeout=10, context=self._context)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        except http.client.HTTPException as error:
            raise OSError(f"the verifier's answer is not HTTP: {error}") from error
        finally:
            connection.close()

    # --- Machines -------------------------------------------------------------------------------------------------------

    def manufacturer(self, name: str) -> Manufacturer:
        """Return a new manufacturer of TPMs."""
        return Manufacturer(self.place / name.lower().replace(" ", "-"), name)

    def machine(self, name: str, maker: Manufacturer, image: BootImage) -> Machine:
        """Make a machine, switch it on and let it boot. *Raises* LabError."""
        tpm = SoftwareTpm(self.place / name, maker).manufacture()
        device = SoftwareDevice(name, self._stack.enter_context(tpm), image)
        device.boot()
        return Machine(device)

    def identified(self, machine: Machine) -> Machine:
        """Ask a machine's agent who it is."""
        return Machine(machine.device, self.agent(machine, "identity").document)

    def agent(self, machine: Machine, *arguments: str | Path) -> Answer:
        """Run one command of `attestd-agent` on a machine. *Raises* NotPossible where it says nothing."""
        begin = time.monotonic()
        command = [*self._agent_command(machine), *map(str, arguments), "--json"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=AGENT_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise NotPossible(f"attestd-agent on {machine.name} did not end in {AGENT_SECONDS:.0f} s") from None
        try:
            document = json.loads(done.stdout)
        except ValueError:
            raise NotPossible(f"attestd-agent on {machine.name}: {done.stderr.strip()[-600:]}") from None
        return Answer(done.returncode, document, time.monotonic() - begin)

    def keep_proving(self, machine: Machine) -> None:
        """Start the machine's agent as the service that it is."""
        self._start([*self._agent_command(machine), "run"], machine.device.tpm.directory / "agent.log")

    def _agent_command(self, machine: Machine) -> list[str]:
        device = machine.device
        settings = {
            "server": self.url,
            "anchor": self.anchor,
            "state-directory": device.state,
            "tcti": device.tcti,
            "event-log": device.event_log,
            "ima-list": device.ima_list,
        }
        flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        return [sys.executable, "-m", "attestd_agent.cli", *flags]


def _new_directory(directory: Path | None, stack: ExitStack) -> Path:
    if directory is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="attestd-demo-")))
    place = directory.absolute()
    try:
        place.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise NotPossible(f"{place} exists: name a new directory") from None
    return place


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End one process of the stage, for certain."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
