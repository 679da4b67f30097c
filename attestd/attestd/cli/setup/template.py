"""The configuration file of a new installation, with its comments.

Proves nothing: `attestd.config` reads the file back, and `attestd.safety` judges it before anything is served.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

_TEXT = """\
# attestd: the verifier's configuration. Paths are relative to this file's directory.
# `attestd check` says what is unsafe about it; `attestd serve` refuses to start with an unsafe one.

# SQLite needs nothing else. For PostgreSQL: postgresql://user@host/attestd
# A password does not belong in this file: put the whole URL into the environment variable ATTESTD_DATABASE.
database = {database}

[listen]
# Devices connect here. The development issuer is refused on any address but loopback.
host = {host}
port = {port}
# The names of the TLS certificate. Devices bind their proofs to the name by which they reached this server.
names = {names}
certificate = "tls/server.pem"
key = "tls/server.key"
# What devices are given to verify this server with. It is not a secret.
anchor = "tls/anchor.pem"
public_url = {public_url}

[trust]
# The name of the fleet: devices are spiffe://<domain>/device/<id>. It stands in the issuer's certificate.
domain = {domain}
dns_suffix = {dns_suffix}
# Certificates (PEM) of the TPM manufacturers that you accept. Empty: no device can enrol.
ek_anchors = ["anchors"]
# "required": every TPM shows a manufacturer's certificate. "or-inventory": a TPM without one may enrol where the
# inventory, signed by your operators, names its endorsement key.
ek_certificate = "required"
# Who may sign changes of policy and inventory (ssh-keygen "allowed signers"), and how many must.
operators = "operators/allowed_signers"
approvals = 1

[attestation]
# What a device quotes. How often, and after how long a silence its trust ends, is in its profile.
bank = "sha256"
pcrs = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
# Signs attestation results; relying parties fetch its public half from /v1/keys.
result_key = "results/key.pem"

[issuance]
# DEVELOPMENT - NOT FOR PRODUCTION: one key in one file mints every certificate.
backend = "development"
key = "issuer/development.key"
certificate = "issuer/authority.pem"
# Seconds. Devices renew by proving themselves again.
lifetime = 21600
crl_url = {crl_url}
crl_lifetime = 3600

[wireguard]
# The PUBLIC key of your gateway (`wg pubkey`); its private key stays on the gateway. Empty: no VPN credential is issued.
public_key = {wireguard_key}
endpoint = {wireguard_endpoint}
allowed_ips = ["100.64.0.0/10"]
ipv4_pool = "100.64.0.0/10"
ipv6_prefix = {ipv6_prefix}
# Seconds before the tunnel address of a retired device is given to another.
cool_down = 86400
"""


@dataclass(frozen=True, slots=True)
class Choices:
    """What differs between two new installations. `names` has at least one; the first is the one in URLs."""

    names: tuple[str, ...]
    host: str
    port: int
    domain: str
    database: str
    wireguard_key: str
    wireguard_endpoint: str
    ipv6_prefix: str


def configuration(choices: Choices) -> str:
    """Return the text of attestd.toml."""
    first = choices.names[0]
    base = f"https://{f'[{first}]' if ':' in first else first}:{choices.port}"
    return _TEXT.format(
        database=_string(choices.database),
        host=_string(choices.host),
        port=choices.port,
        names=_strings(choices.names),
        public_url=_string(base),
        domain=_string(choices.domain),
        dns_suffix=_string(f"devices.{choices.domain}"),
        crl_url=_string(f"{base}/v1/crl"),
        wireguard_key=_string(choices.wireguard_key),
        wireguard_endpoint=_string(choices.wireguard_endpoint),
        ipv6_prefix=_string(choices.ipv6_prefix),
    )


def _string(text: str) -> str:
    """Return a TOML basic string (1.0, "String"): JSON's escapes are a subset of TOML's, but for the raw DEL."""
    return json.dumps(text).replace("\x7f", "\\u007f")


def _strings(texts: Sequence[str]) -> str:
    return "[" + ", ".join(_string(text) for text in texts) + "]"
