"""The private servers of a stack, one file each: how to prepare, start and probe them.

Each offers `part(...)`, a description the supervisor can run; none of them starts a process on
its own, but for the one-time steps of preparing a data directory.
"""
