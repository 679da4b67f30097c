"""Structures become evidence: what a proof says once its signatures, bindings and replays hold.

Proves which TPM signed what, and which components the quoted registers explain. Does not judge whether those are the
expected ones: that is appraisal.
"""
