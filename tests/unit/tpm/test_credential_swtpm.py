"""Credentials against a software TPM, which opens them by its own code."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attestd.tpm.credential import make_credential
from attestd.tpm.public import parse_public

_MISSING = [tool for tool in ("swtpm", "tpm2_createek", "tpm2_activatecredential") if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.swtpm,
    pytest.mark.skipif(bool(_MISSING), reason=f"{', '.join(_MISSING)} missing: apt-get install swtpm tpm2-tools"),
]

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def tpm() -> Iterator[tuple[Path, Run]]:
    """A fresh software TPM's directory, and a function that runs one tpm2-tools command against it."""
    with tempfile.TemporaryDirectory(prefix="tpm-") as name:
        directory = Path(name)
        process = subprocess.Popen(
            [
                "swtpm",
                "socket",
                "--tpm2",
                "--tpmstate",
                f"dir={name}",
                "--flags",
                "not-need-init,startup-clear",
                "--server",
                f"type=unixio,path={name}/tpm",
                "--ctrl",
                f"type=unixio,path={name}/tpm.ctrl",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def run(tool: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
            command = [tool, "-T", f"swtpm:path={name}/tpm", *arguments]
            return subprocess.run(command, cwd=directory, capture_output=True, timeout=60, check=False)

        try:
            deadline = time.monotonic() + 10
            while not (directory / "tpm").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            yield directory, run
        finally:
            process.kill()
            process.wait()


def endorsement_and_attestation_key(directory: Path, run: Run, algorithm: str) -> None:
    for command in (
        ("tpm2_createek", "-c", "ek.ctx", "-G", algorithm, "-u", "ek.pub"),
        ("tpm2_flushcontext", "-t"),
        ("tpm2_createak", "-C", "ek.ctx", "-c", "ak.ctx", "-G", "ecc", "-g", "sha256", "-s", "ecdsa", "-u", "ak.pub"),
        ("tpm2_flushcontext", "-t"),
        ("tpm2_startauthsession", "--policy-session", "-S", "session.ctx"),
        ("tpm2_policysecret", "-S", "session.ctx", "-c", "e"),
    ):
        result = run(*command)
        assert result.returncode == 0, result.stderr.decode()


def activated(directory: Path, run: Run, blob: bytes, secret: bytes) -> subprocess.CompletedProcess[bytes]:
    # The container of tpm2-tools: a magic, a version, and the two structures as they are.
    (directory / "cred").write_bytes(bytes.fromhex("badcc0de00000001") + blob + secret)
    return run(
        "tpm2_activatecredential",
        "-c",
        "ak.ctx",
        "-C",
        "ek.ctx",
        "-i",
        "cred",
        "-o",
        "out",
        "-P",
        "session:session.ctx",
    )


@pytest.mark.parametrize("algorithm", ["rsa", "ecc"])
def test_a_software_tpm_opens_the_credential_of_its_own_key(tpm, algorithm):
    directory, run = tpm
    endorsement_and_attestation_key(directory, run, algorithm)
    ek, ak = (parse_public((directory / name).read_bytes()) for name in ("ek.pub", "ak.pub"))

    result = activated(
        directory, run, *make_credential(ek, ak.name, b"a secret of 32 bytes, no more...", seed=b"s" * 32)
    )

    assert result.returncode == 0, result.stderr.decode()
    assert (directory / "out").read_bytes() == b"a secret of 32 bytes, no more..."


def test_k03_a_software_tpm_refuses_a_credential_for_another_name(tpm):
    directory, run = tpm
    endorsement_and_attestation_key(directory, run, "ecc")
    ek, ak = (parse_public((directory / name).read_bytes()) for name in ("ek.pub", "ak.pub"))

    result = activated(directory, run, *make_credential(ek, ak.name[:-1] + b"?", b"secret", seed=b"s" * 32))

    assert result.returncode != 0
    assert b"integrity" in result.stderr.lower()
