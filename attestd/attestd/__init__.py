"""The verifier: from hostile bytes to an attestation result and, only then, a credential."""
