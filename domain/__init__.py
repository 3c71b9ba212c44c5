"""The ledger's rules, pure: decide(command, state, now_ns) -> events | Rejection, evolve(state,
event).

No clock, randomness, environment, logging or driver; integers only.
"""
