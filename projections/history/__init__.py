"""The projection `history`: deep history in PostgreSQL, rows and checkpoint in one transaction.

Folds (transactions, minutes, fold, mining_records) are pure; store, reading and generations know
PostgreSQL. Source: docs/adr/0013.
"""
