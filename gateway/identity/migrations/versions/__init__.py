"""Alembic's versions of the database rwa_auth, run by `durian migrate`."""
