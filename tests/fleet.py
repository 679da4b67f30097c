"""A fleet under the command line: an installation whose devices are software chips, operated with `attestd` alone.

A pytest plugin; a test module that wants it says ``pytest_plugins = ("fleet",)``. Devices talk to the services
directly: HTTP and TLS are other tests' business. There are no assertions here, so that the module can be imported before
pytest sees it (PYTEST_DONT_REWRITE).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestd import app, clock, config
from attestd.protocol import codec
from attestd.protocol.messages import Enrolled
from attestd.services import attest, enrol, relying
from attestd.services.context import Verifier
from installation import Spoken, attestd
from softchip import GOOD_MAKER, SoftChip
from world import golden_profile

pytest_plugins = ("installation",)

SERVER = "localhost"


@dataclass(frozen=True)
class Fleet:
    """One installation and its machines."""

    place: Path

    def attestd(self, *arguments: str | Path) -> Spoken:
        """Run one command for this installation."""
        return attestd(*arguments, "--directory", self.place)

    def done(self, *arguments: str | Path) -> Any:
        """Run one command that must succeed, and return its JSON."""
        spoken = self.attestd(*arguments, "--json")
        if spoken.exit_code:
            pytest.fail(f"{arguments[:2]}: {spoken.stderr}")
        return spoken.document

    @contextmanager
    def serving(self) -> Iterator[Verifier]:
        """Open the verifier as `attestd serve` has it, for one exchange."""
        verifier = app.build(config.load(self.place))
        try:
            yield verifier
        finally:
            verifier.store.close()

    def chip(self) -> SoftChip:
        """Return a new machine that has booted the healthy image."""
        return SoftChip(now_s=clock.now_ms() // 1000, server=SERVER)

    def enrol(self, chip: SoftChip) -> Enrolled:
        """Enrol a machine. Raises `Refused`."""
        chip.renew_keys()
        body = codec.encode(chip.request(), codec.CBOR)
        with self.serving() as verifier:
            challenge = enrol.challenge(verifier, chip.request(), body)
            return enrol.prove(verifier, chip.proof(body, challenge), codec.CBOR)

    def attest(self, chip: SoftChip) -> Any:
        """Prove a known machine after a boot. Returns an answer or a `Refused`."""
        with self.serving() as verifier:
            nonce = verifier.challenger.attest_nonce(
                chip.device_id, random=verifier.random(16), issued_ms=verifier.now(), expires_ms=verifier.now() + 60_000
            )
            (outcome,) = attest.attest_batch(verifier, [chip.whole_attest_request(nonce)])
        return outcome

    def trust(self, chip: SoftChip) -> relying.Trust:
        """Ask as a relying party."""
        with self.serving() as verifier:
            return relying.trust(verifier, chip.device_id, caller=relying.Caller("test", frozenset(), None))

    def announce(self, chip: SoftChip, name: str = "edge-1", *, site: str = "north") -> None:
        """Announce a machine by the digest of its endorsement key."""
        file = self.place / f"{name}.csv"
        file.write_text(f"ek_public_sha256,name,site,profile\n{chip.ek_digest},{name},{site},edge\n")
        self.done("inventory", "import", file)

    def activate(self, chip: SoftChip, *, version: int = 1) -> Path:
        """Activate a profile that accepts what this machine booted; return its file."""
        file = self.place / f"golden-{version}.yaml"
        file.write_text(golden_profile(chip, version=version))
        self.done("profile", "add", file, "--activate")
        return file

    def trusted(self, name: str = "edge-1") -> SoftChip:
        """Return a machine that was announced and has come in."""
        chip = self.chip()
        self.announce(chip, name)
        self.enrol(chip)
        return chip

    def state(self, chip: SoftChip) -> str:
        """Return the state that the operator sees."""
        return str(self.done("device", "show", chip.device_id)["state"])

    def revoked(self) -> set[str]:
        """Return the serial numbers on the revocation list."""
        return {entry["serial"] for entry in self.done("crl", "show")["revoked"]}


def anchored(place: Path) -> Fleet:
    """Let an installation accept the good chips' maker, and return it as a fleet."""
    anchor = x509.load_der_x509_certificate(GOOD_MAKER.anchor)
    (place / "anchors" / "good.pem").write_bytes(anchor.public_bytes(Encoding.PEM))
    return Fleet(place)


@pytest.fixture
def empty_fleet(installation: Path) -> Fleet:
    """A fleet without a profile and without machines."""
    return anchored(installation)


@pytest.fixture
def fleet(empty_fleet: Fleet) -> Fleet:
    """A fleet whose profile accepts the healthy image."""
    empty_fleet.activate(empty_fleet.chip())
    return empty_fleet
