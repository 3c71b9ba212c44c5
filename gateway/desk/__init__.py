"""What the administration keeps in PostgreSQL: approvals, the record, jobs, withdrawals.

Nothing of the ledger is kept here; what was decided is in the log.
"""
