"""FOR LABORATORIES ONLY: devices made of software, for demonstrations, tests and newcomers.

A software TPM keeps its secrets in a file that anybody with the disk can copy, and its manufacturer is a directory.
What is proved here is that the project's own parts fit together; nothing is proved about a machine. A verifier trusts
such a device only where an operator has put the laboratory's anchors into its bundle with their own hands.
"""
