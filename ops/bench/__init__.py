"""Measurements of this code on this machine: `durian bench NAME`. Never a test, never timed by one.

Ours and a reference run in the same process, taking turns, on the same input.
"""
