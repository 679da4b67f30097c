"""A new server certificate under the anchor that devices have.

Proves that the new certificate's anchor is the one that was handed out. Assumes that the anchor's key may be elsewhere most
of the time. Does not restart a server.
"""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from attestd import clock
from attestd.cli.setup import files, transport
from attestd.config import Configuration
from attestd.errors import UnsafeConfiguration

ANCHOR_KEY = Path("tls/anchor.key")


def renew_server(configuration: Configuration, *, anchor_key: Path | None = None) -> int:
    """Replace the server's key and certificate; return when the new one ends (unix seconds).

    *Raises* UnsafeConfiguration (anchor-key, names-missing), OSError.
    """
    if not configuration.listen.names:
        raise UnsafeConfiguration("names-missing", "listen.names is empty: there is nothing to certify")
    path = anchor_key or configuration.path(ANCHOR_KEY)
    anchor = x509.load_pem_x509_certificate(configuration.path(configuration.listen.anchor).read_bytes())
    issuer_key = _anchor_key(path, anchor)
    now = datetime.datetime.fromtimestamp(clock.now_ms() // 1000, datetime.UTC)
    key = generate_private_key(SECP256R1())
    certificate = transport.server(
        key.public_key(), configuration.listen.names, issuer=anchor, issuer_key=issuer_key, now=now
    )
    # The key first: a server that starts between the two writes refuses a pair that does not fit, and serves no wrong one.
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files.replace(configuration.path(configuration.listen.key), pem)
    files.replace(
        configuration.path(configuration.listen.certificate), certificate.public_bytes(Encoding.PEM), mode=files.PUBLIC
    )
    return int(certificate.not_valid_after_utc.timestamp())


def _anchor_key(path: Path, anchor: x509.Certificate) -> EllipticCurvePrivateKey:
    if not path.is_file():
        raise UnsafeConfiguration("anchor-key", f"there is no {path}: say where it is with --anchor-key")
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError):
        raise UnsafeConfiguration("anchor-key", f"{path} is not a private key in PEM") from None
    if not isinstance(key, EllipticCurvePrivateKey) or key.public_key() != anchor.public_key():
        raise UnsafeConfiguration("anchor-key", f"{path} is not the key of the anchor that devices have")
    return key
