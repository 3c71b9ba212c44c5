"""The log's schema as a chain of versions, each plain SQL; engine.postgres.provision runs it.

A version is applied in the same transaction as all others of its run, and never edited once it
has been released. Going back is not offered: a backup is the way back.
"""
