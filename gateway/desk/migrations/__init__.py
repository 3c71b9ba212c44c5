"""The administration's schema as a chain of versions, each plain SQL; `durian migrate` runs it.

A version is applied in the same transaction as all others of its run, and never edited once it
has been released.
"""
