"""The development operator: one key in a file that signs every change, so that a newcomer can begin.

Proves nothing about who signs: whoever reads the file is the operator. It says what it is in its name, which stands in every
change that it signed, and the verifier refuses it outside loopback. Pure: the key is an argument.
"""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from attestd.safety import DEVELOPMENT_OPERATOR
from attestd_pki.development import DEVELOPMENT_MARK


def private_key_file(key: Ed25519PrivateKey) -> bytes:
    """Return the key as OpenSSH keeps it, without a passphrase."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def public_key_file(key: Ed25519PublicKey) -> bytes:
    """Return the public key as one line, with the mark as its comment."""
    return b"%s %s\n" % (key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH), DEVELOPMENT_MARK.encode())


def allowed_signers(key: Ed25519PublicKey, *, namespace: str) -> bytes:
    """Return an allowed signers file with this operator alone (ssh-keygen(1), ALLOWED SIGNERS)."""
    head = (
        "# Who may sign changes of policy and inventory, one line each:\n"
        f'#   name namespaces="{namespace}" ssh-ed25519 AAAA… comment\n'
        "# Hardware keys (sk-ssh-ed25519@openssh.com, sk-ecdsa-sha2-nistp256@openssh.com) are welcome.\n"
        "# The operator below is for development: its private key lies beside this file.\n"
    )
    return head.encode() + f'{DEVELOPMENT_OPERATOR} namespaces="{namespace}" '.encode() + public_key_file(key)
