"""The one file that wires: configuration in, a running verifier out."""

from importlib.metadata import version
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from attestd import clock
from attestd.appraisal.ear import EarKey, VerifierId
from attestd.changes.operators import Operators, parse_operators
from attestd.config import Configuration
from attestd.errors import UnsafeConfiguration
from attestd.evidence.challenge import Challenger
from attestd.evidence.ek import EkPolicy
from attestd.evidence.quote import Selection
from attestd.issuance.mint import Names
from attestd.issuance.wireguard import Gateway
from attestd.services import memory
from attestd.services.context import Timing, Tunnel, Verifier
from attestd.services.policy import PolicySource
from attestd.store.addresses import AddressPool
from attestd.store.engine import Store
from attestd_pki.certificate import Certificate, parse_certificate
from attestd_pki.chain import Exceptions, TrustStore
from attestd_pki.development import development_issuer
from attestd_pki.errors import PkiError
from attestd_pki.unwrap import split_bundle


def build(configuration: Configuration, *, challenge_key: bytes | None = None) -> Verifier:
    """Return the verifier of a configuration. Raises `UnsafeConfiguration` for files that are missing or malformed.

    `challenge_key` (32 bytes) is given by replicas that share one; by default it is drawn now and dies with the process.
    """
    try:
        return _build(configuration, challenge_key or _challenge_key(configuration))
    except FileNotFoundError as error:
        raise UnsafeConfiguration("file-missing", f"{error.filename} is missing: run `attestd init`") from None
    except (PkiError, ValueError) as error:
        raise UnsafeConfiguration("config-malformed", str(error)) from None


def _challenge_key(configuration: Configuration) -> bytes:
    """Return the key that replicas share, or one that dies with this process."""
    shared = configuration.replicas.challenge_key
    if shared is None:
        return clock.random_bytes(32)
    key = configuration.path(shared).read_bytes()
    if len(key) != 32:
        raise UnsafeConfiguration("challenge-key-malformed", f"{shared} does not hold exactly 32 bytes")
    return key


def _build(configuration: Configuration, challenge_key: bytes) -> Verifier:
    path, trust, issuance = configuration.path, configuration.trust, configuration.issuance
    attestation = configuration.attestation
    authority = split_bundle(path(issuance.certificate).read_bytes())[0]
    return Verifier(
        store=Store.open(configuration.database_url),
        challenger=Challenger("attestd", challenge_key),
        ek_policy=EkPolicy(
            TrustStore.of(read_anchors(configuration)),
            Exceptions(frozenset(bytes.fromhex(digest) for digest in trust.sha1_manufacturers)),
        ),
        pinned_ek_allowed=trust.ek_certificate == "or-inventory",
        policy=PolicySource(read_operators(configuration), fleet=trust.domain, now=clock.now_ms),
        selection=Selection(attestation.bank, attestation.pcrs),
        server_names=frozenset(name.lower() for name in configuration.listen.names),
        issuer=development_issuer(path(issuance.key).read_bytes(), authority, dns_suffix=trust.dns_suffix),
        names=Names(trust.domain, trust.dns_suffix),
        crl_url=issuance.crl_url,
        result_key=EarKey(_result_key(path(attestation.result_key))),
        identity=VerifierId(f"spiffe://{trust.domain}", "attestd", version("attestd")),
        tunnel=_tunnel(configuration),
        timing=Timing(attestation.pending_retry, issuance.lifetime, issuance.crl_lifetime),
        anchor_pem=path(configuration.listen.anchor).read_bytes(),
        identities=memory.identity_memory(),
        keys=memory.key_memory(),
        boots=memory.boot_memory(),
        refusals=memory.refusal_memory(),
        now=clock.now_ms,
        random=clock.random_bytes,
    )


def read_anchors(configuration: Configuration) -> list[Certificate]:
    """Return the TPM manufacturers' certificates of the configured files and directories."""
    found: list[Certificate] = []
    for configured in configuration.trust.ek_anchors:
        place = configuration.path(configured)
        files = sorted(file for file in place.iterdir() if file.is_file()) if place.is_dir() else [place]
        for file in files:
            found += [parse_certificate(der) for der in split_bundle(file.read_bytes())]
    return found


def read_operators(configuration: Configuration) -> Operators:
    """Return the operators who approve changes, and how many of them it takes."""
    trust = configuration.trust
    return parse_operators(configuration.path(trust.operators).read_text(encoding="utf-8"), threshold=trust.approvals)


def _result_key(path: Path) -> Ed25519PrivateKey:
    key = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise UnsafeConfiguration("config-malformed", f"{path} is not an Ed25519 key")
    return key


def _tunnel(configuration: Configuration) -> Tunnel | None:
    wireguard = configuration.wireguard
    if not wireguard.public_key:
        return None
    return Tunnel(
        Gateway(wireguard.public_key, wireguard.endpoint, wireguard.allowed_ips),
        AddressPool(wireguard.ipv4_pool, wireguard.ipv6_prefix),
        wireguard.cool_down * 1000,
    )


def serve(configuration: Configuration) -> None:
    """Serve until a signal ends it. Assumes that `attestd.safety` found the configuration safe."""
    # HTTP is loaded by who serves, not by every command.
    from attestd.api.application import server, settle
    from attestd.api.listening import raise_descriptors

    verifier = build(configuration)
    verifier.store.require_schema()
    running = server(configuration, verifier)
    raise_descriptors()
    settle()
    running.run()
