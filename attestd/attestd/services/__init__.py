"""Load, call the core, persist: the order of events around each decision, and no decision of its own."""
