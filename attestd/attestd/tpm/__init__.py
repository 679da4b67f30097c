"""Hostile bytes into structures: what a TPM, a firmware and a kernel say, read exactly and within bounds.

Proves that bytes are the structure they claim to be, completely and without remainder, and that a signature fits a key.
Assumes nothing about the bytes. Judges nothing: whether a quote is fresh, a key restricted or a boot good is
decided by the rooms after this one (evidence, appraisal).
"""
