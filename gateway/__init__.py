"""HTTP and WebSocket edge: turns wire text into commands, and views into wire text.

Holds no rules of the ledger and no state of its own that could not be thrown away.
"""
