"""What crosses the wire: messages, their binding, bounds, reason codes.

The agent imports this package and nothing else of the verifier.
"""
