"""`attestd demo`: the main job as a story on one machine, with everything real but the silicon.

A real verifier over TLS, the real agent, real TPM 2.0 commands, quotes and boot logs; only the chips and the firmware are
software (attestd_agent.lab). Every step says what was expected, and the exit code is 0 only if all of it came true.
"""
