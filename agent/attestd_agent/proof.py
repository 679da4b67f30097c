"""The three messages of the protocol, built from the TPM and the files of this device.

Proves nothing by itself: the TPM's signatures do, over a binding that both sides compute alike (protocol/binding.py).
Every function gives, beside the message, what the verifier holds once it accepts it (`Shown`), so that the next proof
can leave out what has not changed. Assumes that `server` is the name that the TLS client verified. Sends nothing.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from attestd.protocol import limits
from attestd.protocol.binding import Purpose, qualifying_data
from attestd.protocol.codec import CBOR, encode
from attestd.protocol.messages import (
    Activation,
    AttestRequest,
    EnrolChallenge,
    EnrolProof,
    EnrolRequest,
    PcrValue,
    QuoteRequest,
    RuntimeList,
    SignedAttest,
)
from attestd_agent import collect, identity
from attestd_agent.machine import Part
from attestd_agent.tpm import KeyBlob, QuoteResult, Tpm
from attestd_agent.wireguard import TunnelKey

QUOTE_ATTEMPTS: Final = 3
"""Quotes taken until the runtime list stands still around one. A list that still grows is sent as it was after the last."""
_ENVELOPE: Final = 64 * limits.KIB
"""Bytes of a proof without its two logs: a request of at most 32 KiB, sixteen activations, two signatures, 24 values."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one enrolment: the device key, and the tunnel key."""

    device: KeyBlob
    tunnel: TunnelKey


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the logs are."""

    event_log: Path = collect.EVENT_LOG
    ima_list: Path = collect.IMA_LIST


@dataclass(frozen=True, slots=True)
class Shown:
    """What the verifier holds after a proof: SHA-256 of the boot log and of the quoted values, resetCount, entries."""

    log: bytes = b""
    pcrs: bytes = b""
    reset_count: int = 0
    runtime_entries: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """A device as the verifier knows it: its id, its keys, what it is asked to quote, and what was shown last."""

    device_id: str
    keys: Keys
    quote: QuoteRequest
    shown: Shown


def new_keys(tpm: Tpm) -> Keys:
    """Make the keys of one enrolment. *Raises* TpmUnavailable, TpmRefused."""
    from attestd_agent import wireguard

    return Keys(tpm.create_device_key(), wireguard.new_key(tpm))


def enrol_request(tpm: Tpm, keys: Keys, *, server: str, labels: tuple[tuple[str, str], ...]) -> bytes:
    """Return the first message in application/cbor, at most MAX_ANONYMOUS_BODY bytes.

    Certificates are left out from the last on until it fits: the endorsement key's own comes first. *Raises*
    TpmUnavailable, TpmRefused.
    """
    certificates = tpm.ek_certificates()[: limits.MAX_EK_CERTIFICATES]
    request = EnrolRequest(
        server=server,
        ek_public=tpm.ek_public(),
        ak_public=tpm.ak_public(),
        device_key=keys.device.public,
        vpn_keys=keys.tunnel.offer,
        ek_certificates=tuple(der for der in certificates if 0 < len(der) <= limits.MAX_CERTIFICATE),
        labels=labels,
    )
    while len(body := encode(request, CBOR)) > limits.MAX_ANONYMOUS_BODY and request.ek_certificates:
        request = replace(request, ek_certificates=request.ek_certificates[:-1])
    return body


def enrol_proof(
    tpm: Tpm, keys: Keys, *, server: str, request: bytes, challenge: EnrolChallenge, sources: Sources
) -> tuple[bytes, Shown]:
    """Return the second message in application/cbor: every challenger's secret, the certification and the quote.

    `request` is the first message, byte for byte. *Raises* TpmUnavailable, TpmRefused, OSError for a log that cannot be
    read.
    """
    binding = _binding(tpm, keys, server=server, nonces=tuple(c.nonce for c in challenge.challenges))
    activations = tuple(
        Activation(c.challenger, c.nonce, tpm.activate(c.credential_blob, c.encrypted_secret))
        for c in challenge.challenges
    )
    certified = tpm.certify(keys.device, binding(Purpose.ENROL_CERTIFY))
    log = collect.event_log(sources.event_log)
    most = limits.MAX_BODY - _ENVELOPE - len(log)
    quote, runtime = _quote(
        tpm, challenge.quote, binding(Purpose.ENROL_QUOTE), lambda: collect.runtime_list(sources.ima_list, 0, most=most)
    )
    proof = EnrolProof(
        request=request,
        activations=activations,
        certify=SignedAttest(certified.attest, certified.signature),
        quote=SignedAttest(quote.attest, quote.signature),
        pcrs=_values(quote),
        event_log=log,
        runtime=runtime,
    )
    return encode(proof, CBOR), _shown(quote, hashlib.sha256(log).digest(), runtime)


def attest_request(
    tpm: Tpm, device: Identity, *, server: str, nonce: bytes, parts: frozenset[Part], sources: Sources
) -> tuple[bytes, Shown]:
    """Return the message of a known device in application/cbor, with what changed since the last proof and `parts`.

    A resetCount other than the one shown last is a new boot: it is announced, and everything is sent. *Raises*
    TpmUnavailable, TpmRefused, StateDamaged, OSError for a log that cannot be read.
    """
    qualifying = qualifying_data(
        Purpose.ATTEST_QUOTE,
        server=server,
        nonces=[nonce],
        device_id=device.device_id,
        device_key_name=identity.name_of(device.keys.device.public),
        vpn_keys=device.keys.tunnel.offer,
    )
    offset = 0 if Part.RUNTIME in parts or Part.REBOOT in parts else device.shown.runtime_entries
    most = limits.MAX_BODY - _ENVELOPE - limits.MAX_EVENT_LOG
    quote, runtime = _quote(
        tpm, device.quote, qualifying, lambda: collect.runtime_list(sources.ima_list, offset, most=most)
    )
    rebooted = Part.REBOOT in parts or identity.reset_count(quote.attest) != device.shown.reset_count
    if rebooted and offset:
        runtime = collect.runtime_list(sources.ima_list, 0, most=most)
    log = collect.event_log(sources.event_log) if rebooted or Part.LOG in parts or not device.shown.log else None
    digest = device.shown.log if log is None else hashlib.sha256(log).digest()
    shown = _shown(quote, digest, runtime)
    request = AttestRequest(
        device_id=device.device_id,
        server=server,
        nonce=nonce,
        quote=SignedAttest(quote.attest, quote.signature),
        log=digest,
        pcrs=_values(quote) if rebooted or Part.PCRS in parts or shown.pcrs != device.shown.pcrs else (),
        event_log=log,
        runtime=runtime,
        rebooted=rebooted,
    )
    return encode(request, CBOR), shown


def _binding(tpm: Tpm, keys: Keys, *, server: str, nonces: tuple[bytes, ...]) -> Callable[[Purpose], bytes]:
    device_id = identity.device_id(tpm.ek_public())
    name = identity.name_of(keys.device.public)

    def of(purpose: Purpose) -> bytes:
        return qualifying_data(
            purpose,
            server=server,
            nonces=nonces,
            device_id=device_id,
            device_key_name=name,
            vpn_keys=keys.tunnel.offer,
        )

    return of


def _quote(
    tpm: Tpm, asked: QuoteRequest, qualifying: bytes, read: Callable[[], RuntimeList | None]
) -> tuple[QuoteResult, RuntimeList | None]:
    """Return a quote and the runtime list that goes with it: read before and after, until both are the same."""
    after = read()
    for _ in range(QUOTE_ATTEMPTS):
        before = after
        quote = tpm.quote(qualifying, bank=asked.bank, pcrs=asked.pcrs)
        after = read()
        if after == before or collect.RUNTIME_PCR not in asked.pcrs:
            break
    return quote, after


def _values(quote: QuoteResult) -> tuple[PcrValue, ...]:
    return tuple(PcrValue(index, value) for index, value in quote.pcrs)


def _shown(quote: QuoteResult, log: bytes, runtime: RuntimeList | None) -> Shown:
    entries = 0 if runtime is None else runtime.offset + collect.count_entries(runtime.entries)
    values = hashlib.sha256(b"".join(value for _, value in quote.pcrs)).digest()
    return Shown(log, values, identity.reset_count(quote.attest), entries)
