"""What every service is given: one value, made by app.py and by nothing else."""

from collections.abc import Callable
from dataclasses import dataclass

from attestd.appraisal.ear import EarKey, VerifierId
from attestd.evidence.challenge import Challenger
from attestd.evidence.ek import EkPolicy
from attestd.evidence.quote import Selection
from attestd.issuance.mint import Names
from attestd.issuance.wireguard import Gateway
from attestd.services.memory import BootMemory, IdentityMemory, KeyMemory, RefusalMemory
from attestd.services.policy import PolicySource
from attestd.store.addresses import AddressPool
from attestd.store.engine import Store
from attestd_pki.issuer import Issuer


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The WireGuard side of the service: the gateway that devices are told of, and the pools of addresses."""

    gateway: Gateway
    pool: AddressPool
    cool_down_ms: int


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: how often a device proves itself where its profile does not say, how long a certificate and a CRL live."""

    pending_retry: int
    certificate: int
    crl: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """One verifier. `now` gives milliseconds since the epoch, `random` unpredictable bytes."""

    store: Store
    challenger: Challenger
    ek_policy: EkPolicy
    pinned_ek_allowed: bool
    policy: PolicySource
    selection: Selection
    server_names: frozenset[str]
    issuer: Issuer
    names: Names
    crl_url: str
    result_key: EarKey
    identity: VerifierId
    tunnel: Tunnel | None
    timing: Timing
    anchor_pem: bytes
    identities: IdentityMemory
    keys: KeyMemory
    boots: BootMemory
    refusals: RefusalMemory
    now: Callable[[], int]
    random: Callable[[int], bytes]
