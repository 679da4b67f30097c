"""A manufacturer of software TPMs: a certification authority in a directory. FOR LABORATORIES ONLY.

It makes the two-level authority that ``swtpm_localca`` expects, under names of its own, so that several manufacturers
can be told apart, and it touches no global configuration. The private keys lie unencrypted in the directory.
"""

import datetime
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

INSTALL: Final = "apt-get install swtpm swtpm-tools"
TOOL_SECONDS: Final = 60.0
_KEY_BITS: Final = 2048
_VALID: Final = datetime.timedelta(days=3650)


class LabError(Exception):
    """A tool of the laboratory is missing or failed; the message says which and what to do."""


def run_tool(*arguments: str) -> str:
    """Run one program of the laboratory to its end and return what it printed.

    Raises: LabError where it is missing, fails, or takes longer than TOOL_SECONDS.
    """
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False)
    except FileNotFoundError:
        raise LabError(f"{arguments[0]} is not installed: {INSTALL}") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{arguments[0]} did not end within {TOOL_SECONDS:.0f} s") from None
    if done.returncode:
        raise LabError(f"{arguments[0]} failed ({done.returncode}): {(done.stderr or done.stdout).strip()[-800:]}")
    return done.stdout


class Manufacturer:
    """Makes TPMs whose EK certificates chain to its own root.

    A directory that already holds a manufacturer is used as it is, so that a laboratory survives a restart.
    """

    def __init__(self, directory: Path, name: str = "Laboratory") -> None:
        self.directory = directory.resolve()
        self.name = name
        self._authority = self.directory / "authority"
        if not (self.directory / "setup.conf").is_file():
            self._authority.mkdir(parents=True, mode=0o700)
            self._make_authority()
            self._write_configuration()

    @property
    def anchors(self) -> bytes:
        """The root and the intermediate certificate, PEM, in that order."""
        return self._root.read_bytes() + self._issuer.read_bytes()

    @property
    def root(self) -> bytes:
        """The root certificate alone, PEM."""
        return self._root.read_bytes()

    @property
    def intermediate(self) -> bytes:
        """The certificate that signs EKs, PEM."""
        return self._issuer.read_bytes()

    @property
    def _root(self) -> Path:
        return self._authority / "root.pem"

    @property
    def _issuer(self) -> Path:
        return self._authority / "issuer.pem"

    def manufacture(
        self, state: Path, *, banks: tuple[str, ...] = ("sha256",), platform_certificate: bool = False
    ) -> None:
        """Make one TPM: its seeds, its RSA 2048 and ECC P-384 endorsement keys, and their certificates in NV.

        ``state`` becomes the directory of its permanent state and must not hold a TPM yet.
        Raises: LabError.
        """
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(state.glob("tpm2-*.permall")):
            raise LabError(f"{state.name}: there is a TPM already")
        if shutil.which("swtpm_setup") is None:
            raise LabError(f"swtpm_setup is not installed: {INSTALL}")
        extra = ("--create-platform-cert",) if platform_certificate else ()
        run_tool(
            sys.executable, "-ISE", str(Path(__file__).with_name("reaper.py")), "swtpm_setup", "--tpm2",
            "--tpmstate", str(state), "--config", str(self.directory / "setup.conf"),
            "--create-ek-cert", "--lock-nvram", "--pcr-banks", ",".join(banks), *extra,
        )  # fmt: skip

    def _make_authority(self) -> None:
        now = datetime.datetime.now(datetime.UTC)
        root_key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
        issuer_key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
        root_name, issuer_name = (
            _name(f"{self.name} software TPM {what} - laboratory only") for what in ("root", "EK CA")
        )
        root = _certificate(root_name, root_key, root_name, root_key, now=now, depth=1)
        issuer = _certificate(issuer_name, issuer_key, root_name, root_key, now=now, depth=0)
        self._root.write_bytes(root.public_bytes(serialization.Encoding.PEM))
        self._issuer.write_bytes(issuer.public_bytes(serialization.Encoding.PEM))
        key_file = self._authority / "issuer-key.pem"
        key_file.touch(mode=0o600)
        key_file.write_bytes(
            issuer_key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    def _write_configuration(self) -> None:
        authority = self._authority
        (self.directory / "localca.conf").write_text(
            f"statedir = {authority}\nsigningkey = {authority}/issuer-key.pem\n"
            f"issuercert = {authority}/issuer.pem\ncertserial = {authority}/serial\n"
        )
        (self.directory / "localca.options").write_text(
            f"--platform-manufacturer {self.name.replace(' ', '-')}\n--platform-version 1.0\n--platform-model Software\n"
        )
        (self.directory / "setup.conf").write_text(
            "create_certs_tool = swtpm_localca\n"
            f"create_certs_tool_config = {self.directory}/localca.conf\n"
            f"create_certs_tool_options = {self.directory}/localca.options\n"
            "active_pcr_banks = sha256\n"
        )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _certificate(
    subject: x509.Name,
    key: rsa.RSAPrivateKey,
    issuer: x509.Name,
    signer: rsa.RSAPrivateKey,
    *,
    now: datetime.datetime,
    depth: int,
) -> x509.Certificate:
    """Return a certificate of an authority that may have ``depth`` authorities below it."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # An hour back: a laboratory's devices may have clocks that are a little behind.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=depth), critical=True)
        .add_extension(_SIGNS_CERTIFICATES, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )


_SIGNS_CERTIFICATES: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
