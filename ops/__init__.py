"""Running it: the command line, the supervisor of processes, private servers, configuration.

The only room that knows all the others (ops.wiring joins them) and the only one that reads the
environment (ops.config). It holds no rule of the ledger.
"""
