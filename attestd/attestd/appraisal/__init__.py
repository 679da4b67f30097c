"""Evidence becomes a verdict: (evidence, reference values, policy, now) → attestation result.

Proves nothing about the device that the evidence does not: it compares what was proved with what a profile accepts,
collects every reason, and never stops at the first. docs/appraisal.md describes the steps.
"""
