"""A software TPM as a process: made, switched on, rebooted, cut off. FOR LABORATORIES ONLY.

Its state is a directory that anybody can copy, which is exactly why it proves nothing about a machine. The process
listens on a Unix socket, so that any number of devices live side by side without choosing ports.
"""

import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from attestd_agent.lab.manufacturer import INSTALL, LabError, Manufacturer

START_SECONDS: Final = 10.0
STOP_SECONDS: Final = 5.0
_log: Final = logging.getLogger(__name__)
_POLL_SECONDS: Final = 0.002
_MAX_SOCKET_PATH: Final = 100
"""sun_path holds 108 bytes (unix(7)); ".ctrl" and a NUL come on top."""
# TPM2_Shutdown(CLEAR): tag NO_SESSIONS, 12 bytes, command 0x145, startup type 0 (Part 3, 9.4).
_SHUTDOWN_CLEAR: Final = bytes.fromhex("80010000000c000001450000")


class SoftwareTpm:
    """One software TPM of one manufacturer.

    Used as a context manager it is switched on at the start and off at the end; its process never outlives it.
    """

    def __init__(self, directory: Path, manufacturer: Manufacturer, *, banks: tuple[str, ...] = ("sha256",)) -> None:
        self.directory = directory.resolve()
        self.manufacturer = manufacturer
        self.banks = banks
        self._process: subprocess.Popen[bytes] | None = None
        self._announced = False
        self._sockets = _socket_directory(self.directory)
        # Who removes it is settled before it is made: whatever ends this process in between leaves nothing behind.
        self._end_of_life = weakref.finalize(self, _remove, self._sockets, self.directory)
        for place in (self.directory, self._sockets):
            place.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def tcti(self) -> str:
        """The address of this TPM for the TCG stack; it stays the same over power cycles."""
        return f"swtpm:path={self._socket}"

    @property
    def state(self) -> Path:
        """The directory of its permanent state."""
        return self.directory / "state"

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def _socket(self) -> Path:
        return self._sockets / "tpm"

    @property
    def _control(self) -> Path:
        return self._sockets / "tpm.ctrl"

    def manufacture(self, *, platform_certificate: bool = False) -> Self:
        """Make this TPM at its manufacturer, about half a second; return it."""
        self.manufacturer.manufacture(self.state, banks=self.banks, platform_certificate=platform_certificate)
        return self

    def clone(self, directory: Path) -> "SoftwareTpm":
        """Return a second TPM with a copy of this one's state: the crime that a chip makes impossible.

        Assumes this TPM is off, so that the copy is consistent.
        """
        if self.running:
            raise LabError("switch the TPM off before copying its state")
        twin = SoftwareTpm(directory, self.manufacturer, banks=self.banks)
        shutil.copytree(self.state, twin.state)
        return twin

    def power_on(self) -> Self:
        """Start the process and send TPM2_Startup(CLEAR); return when it listens."""
        if self.running:
            return self
        for path in (self._socket, self._control):
            path.unlink(missing_ok=True)
        try:
            self._process = subprocess.Popen(
                [
                    "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.state}",
                    "--server", f"type=unixio,path={self._socket}", "--ctrl", f"type=unixio,path={self._control}",
                    "--flags", "not-need-init,startup-clear", "--log", f"file={self.directory / 'swtpm.log'}",
                ],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError:
            raise LabError(f"swtpm is not installed: {INSTALL}") from None
        weakref.finalize(self, _kill, self._process)
        self._wait_until_listening()
        _log.warning(
            "FOR LABORATORIES ONLY: %s is a software TPM; whoever copies its directory is this device", self.tcti
        )
        return self

    def power_off(self) -> None:
        """Shut down in order: TPM2_Shutdown(CLEAR), then the power goes."""
        if not self.running:
            return
        self._send(_SHUTDOWN_CLEAR)
        self._end(signal.SIGTERM)

    def power_cut(self) -> None:
        """Take the power away without a word to the TPM."""
        self._end(signal.SIGKILL)

    def reset(self) -> None:
        """Reboot: registers are cleared and resetCount grows by one."""
        self.power_off()
        self.power_on()

    def close(self) -> None:
        """End the process and remove what was temporary; the state stays."""
        self._end(signal.SIGTERM)
        self._end_of_life()

    def __enter__(self) -> Self:
        return self.power_on()

    def __exit__(
        self, _kind: type[BaseException] | None, _exc: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.close()

    def _wait_until_listening(self) -> None:
        """Return when both sockets take connections; that a socket's file exists is too early."""
        deadline = time.monotonic() + START_SECONDS
        while not (_listens(self._socket) and _listens(self._control)):
            if not self.running or time.monotonic() > deadline:
                log = self.directory / "swtpm.log"
                detail = log.read_text(errors="replace")[-400:] if log.exists() else ""
                self._end(signal.SIGKILL)
                raise LabError(f"swtpm did not start: {detail}")
            time.sleep(_POLL_SECONDS)

    def _send(self, command: bytes) -> None:
        """Send one command to the TPM and wait for its answer.

        Raises: LabError where somebody else holds the TPM.
        """
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(STOP_SECONDS)
            try:
                link.connect(str(self._socket))
                link.sendall(command)
                link.recv(4096)
            except OSError as exc:
                raise LabError(f"the TPM does not answer ({exc}): is a connection to it still open?") from exc

    def _end(self, how: signal.Signals) -> None:
        """End this object's own process, for certain."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None


def _socket_directory(directory: Path) -> Path:
    """Return a directory short enough for a socket: the TPM's own, or a temporary one. It is not made yet."""
    if len(os.fsencode(directory / "tpm.ctrl")) <= _MAX_SOCKET_PATH:
        return directory
    return Path(tempfile.gettempdir()) / f"lab-tpm-{secrets.token_hex(8)}"


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as link:
        return link.connect_ex(str(path)) == 0


def _remove(sockets: Path, directory: Path) -> None:
    if sockets != directory:
        shutil.rmtree(sockets, ignore_errors=True)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
