"""The agent on the device: proves with its TPM what it is and what it booted."""
