"""Operator changes: the only source of policy and inventory.

Proves, of a `PolicyBook` that `verify_chain` returns, that every profile, inventory entry and rule in it was approved by as
many operators as the verifier demands, in this order, for this fleet. Whoever writes into the database can therefore stop
the policy from being read, but cannot lower it (P02). Assumes that the list of operators comes from the verifier's own
configuration. Does no I/O, reads no clock, and does not know what a profile means.
"""
