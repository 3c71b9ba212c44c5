"""One file for each subcommand of `durian`: options in, a call into another room, lines out.

A module offers `command`; ops.cli lists it by name and loads it when it is asked for.
"""
