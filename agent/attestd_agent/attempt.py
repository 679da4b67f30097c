"""One attempt to prove the device: carries out what the state machine says, up to its next sleep.

Decides nothing: machine.py says what to do, proof.py what to send, record.py where it is kept. Whatever goes wrong in an
action becomes an event of the machine, so that no condition that can pass ends the agent. Assumes that one thread runs
it. Does not sleep and knows no signals; run.py does.
"""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar, assert_never

from attestd.protocol.messages import (
    PATH_ATTEST,
    PATH_ENROL,
    PATH_ENROL_PROOF,
    Attested,
    EnrolChallenge,
    Enrolled,
    QuoteRequest,
)
from attestd_agent import collect, identity, machine, proof
from attestd_agent.client import Client, fetch_anchor, find_certificate
from attestd_agent.config import Settings
from attestd_agent.errors import (
    ConfigurationError,
    Problem,
    StateDamaged,
    UnexpectedAnswer,
    Unreachable,
    UntrustedServer,
)
from attestd_agent.keystore import KeystoreRefused
from attestd_agent.machine import (
    Action,
    Admitted,
    Adopt,
    Attest,
    Challenged,
    Confirmed,
    Event,
    Forget,
    Lost,
    Memory,
    NotReached,
    Prove,
    Record,
    Refused,
    Report,
    SendEnrol,
    Sleep,
    Started,
    TpmFailed,
)
from attestd_agent.proof import Identity, Keys, Shown, Sources
from attestd_agent.record import Enrolment
from attestd_agent.record import Record as Store
from attestd_agent.tpm import Tpm, TpmRefused, TpmUnavailable

M = TypeVar("M")

_RANDOM: Final = random.SystemRandom()


class Transport(Protocol):
    """What the agent asks of a connection to the verifier; client.Client is it."""

    def ask(self, path: str, body: bytes, *, answer: type[M]) -> M | Problem:
        """Post one message; return the answer or the refusal. *Raises* Unreachable."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class Logger(Protocol):
    """Where events go: one line each."""

    def __call__(self, event: str, /, **fields: object) -> None:
        """Write one event."""
        ...


def connect(settings: Settings, store: Store) -> Client:
    """Return a client that trusts the configured anchor; one that is pinned by fingerprint is fetched once and kept.

    *Raises* ConfigurationError, Unreachable, UntrustedServer, KeystoreRefused.
    """
    server = settings.verifier()
    if settings.anchor is not None:
        try:
            return Client(server, anchor_pem=settings.anchor.read_text("ascii"))
        except (OSError, UnicodeDecodeError, UntrustedServer):
            raise ConfigurationError(f"{settings.anchor} is not a readable PEM certificate") from None
    pin = settings.anchor_fingerprint or b""
    with suppress(UntrustedServer):
        return Client(server, anchor_pem=find_certificate(store.anchor(), fingerprint=pin))
    pem = fetch_anchor(server, fingerprint=pin)
    store.keep_anchor(pem)
    return Client(server, anchor_pem=pem)


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt ended: what to remember, the last report, the seconds to sleep, and whether trust was dropped."""

    memory: Memory
    report: Report
    seconds: float
    forgotten: bool


class Agent:
    """Performs the machine's actions with a TPM, a transport and a state directory."""

    def __init__(
        self,
        server: str,
        tpm: Tpm,
        store: Store,
        *,
        sources: Sources,
        transport: Callable[[], Transport],
        log: Logger,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = _RANDOM.random,
    ) -> None:
        """Hold the parts. `server` is the name that the transport verifies; `transport` may raise Unreachable."""
        self._server = server
        self._tpm = tpm
        self._store = store
        self._sources = sources
        self._make_transport = transport
        self._transport: Transport | None = None
        self._log = log
        self._clock = clock
        self._draw = draw
        self._keys: Keys | None = None
        self._request = b""
        self._quote: QuoteRequest | None = None
        self._shown = Shown()
        self._enrolment: Enrolment | None = None
        self._nonce_on_disk = b""  # tells what this process wrote from what another one did

    def begin(self) -> Started:
        """Return the event to start with: the stored enrolment's next proof, or none. *Raises* KeystoreRefused."""
        self._enrolment = self._store.load()
        if self._enrolment is None:
            return Started()
        self._nonce_on_disk = self._enrolment.nonce
        return Started(self._enrolment.nonce)

    def attempt(self, memory: Memory, event: Event) -> Attempt:
        """Follow the machine from an event to its next sleep, while no other process uses the state directory."""
        report: Report | None = None
        forgotten = False
        with self._store.exclusive():
            while True:
                memory, actions = machine.step(memory, event, draw=self._draw())
                for action in actions:
                    if isinstance(action, Sleep):
                        if report is None:  # pragma: no cover - the machine reports before it sleeps
                            raise machine.IllegalMove(memory.state, event)
                        return Attempt(memory, report, action.seconds, forgotten)
                    if isinstance(action, Report):
                        report = action
                    forgotten = forgotten or isinstance(action, Forget)
                    event = self.perform(action) or event

    def close(self) -> None:
        """Close the connection and let go of the TPM."""
        if self._transport is not None:
            self._transport.close()
        self._tpm.close()

    def perform(self, action: Action) -> Event | None:
        """Carry out one action that is not a sleep, and return how it ended, where that is an event."""
        if isinstance(action, SendEnrol | Prove | Attest):
            return self._ask(action)
        try:
            self._keep(action)
        except (KeystoreRefused, StateDamaged, OSError) as error:
            # The device goes on with what it has in memory: a full disk must not cost it its trust.
            self._log("state-not-kept", detail=str(error))
        return None

    def _ask(self, action: SendEnrol | Prove | Attest) -> Event:
        try:
            if isinstance(action, SendEnrol):
                return self._enrol(action)
            if isinstance(action, Prove):
                return self._prove(action)
            return self._attest(action)
        except Unreachable as error:
            return NotReached(str(error))
        except (TpmUnavailable, TpmRefused) as error:
            return TpmFailed(str(error))
        except KeystoreRefused as error:
            return TpmFailed(f"the state directory cannot be used: {error}")
        except StateDamaged as error:
            return Lost(str(error)) if isinstance(action, Attest) else TpmFailed(str(error))
        except OSError as error:
            return TpmFailed(f"{error.filename or 'a log'} cannot be read: {error.strerror or error}")

    def _post(self, path: str, body: bytes, answer: type[M]) -> M | Problem:
        if self._transport is None:
            self._transport = self._make_transport()
        return self._transport.ask(path, body, answer=answer)

    # --- Asking -----------------------------------------------------------------------------------------------------

    def _enrol(self, action: SendEnrol) -> Event:
        if action.new_keys:
            self._keys = None
        if self._keys is None:
            self._keys = proof.new_keys(self._tpm)
        self._request = proof.enrol_request(self._tpm, self._keys, server=self._server, labels=collect.labels())
        answer = self._post(PATH_ENROL, self._request, EnrolChallenge)
        return Refused(answer) if isinstance(answer, Problem) else Challenged(answer)

    def _prove(self, action: Prove) -> Event:
        if self._keys is None:  # pragma: no cover - a challenge follows a request, and a request has keys
            raise StateDamaged("there are no keys to prove")
        self._quote = action.challenge.quote
        body, self._shown = proof.enrol_proof(
            self._tpm,
            self._keys,
            server=self._server,
            request=self._request,
            challenge=action.challenge,
            sources=self._sources,
        )
        answer = self._post(PATH_ENROL_PROOF, body, Enrolled)
        if isinstance(answer, Problem):
            return Refused(answer)
        if answer.device_id != identity.device_id(self._tpm.ek_public()):
            raise UnexpectedAnswer("the verifier enrolled another device than this one")
        return Admitted(answer)

    def _attest(self, action: Attest) -> Event:
        device, nonce = self._current(action.nonce)
        body, self._shown = proof.attest_request(
            self._tpm, device, server=self._server, nonce=nonce, parts=action.parts, sources=self._sources
        )
        answer = self._post(PATH_ATTEST, body, Attested)
        return Refused(answer) if isinstance(answer, Problem) else Confirmed(answer)

    def _current(self, nonce: bytes) -> tuple[Identity, bytes]:
        """Return the device as it stands on the disk, and the nonce to use.

        Another process may have proved it meanwhile: then its nonce is the newer one. What cannot be read from the disk
        is taken from memory. *Raises* StateDamaged where neither has an enrolment.
        """
        stored = self._store.load()
        if stored is not None and stored.nonce != self._nonce_on_disk:
            self._enrolment, self._nonce_on_disk = stored, stored.nonce
            nonce = stored.nonce
        if self._enrolment is None:
            raise StateDamaged("there is no enrolment in the state directory")
        return self._enrolment.device, nonce

    # --- Keeping ----------------------------------------------------------------------------------------------------

    def _keep(self, action: Adopt | Record | Forget | Report | Sleep) -> None:
        now = self._clock()
        match action:
            case Adopt(answer):
                self._adopt(answer, now)
            case Record(answer):
                self._proved(answer, now)
            case Forget(code):
                self._enrolment = None
                self._log("trust-ended", code=code)
                self._store.forget()
            case Report():
                self._store.judge(action, now=now)
            case Sleep():  # pragma: no cover - a sleep is the caller's
                pass
            case _:  # pragma: no cover
                assert_never(action)

    def _proved(self, answer: Attested, now: float) -> None:
        if self._enrolment is not None:
            self._enrolment = replace(
                self._enrolment,
                device=replace(self._enrolment.device, shown=self._shown),
                nonce=answer.next.nonce,
                interval=answer.next.interval,
                deadline=int(now) + answer.next.deadline,
            )
        self._store.proved(answer, shown=self._shown, now=now)
        self._nonce_on_disk = answer.next.nonce

    def _adopt(self, answer: Enrolled, now: float) -> None:
        if self._keys is None or self._quote is None:  # pragma: no cover - an answer follows a proof
            raise StateDamaged("there are no keys to keep")
        device = Identity(answer.device_id, self._keys, self._quote, self._shown)
        deadline = int(now) + answer.next.deadline
        self._enrolment = Enrolment(device, answer.next.nonce, answer.next.interval, deadline, "", answer.vpn)
        keys, self._keys = self._keys, None
        self._store.adopt(answer, keys, quote=self._quote, shown=self._shown, now=now)
        self._nonce_on_disk = answer.next.nonce
