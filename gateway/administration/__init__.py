"""The administration service: who may change what, approvals, the record, jobs, health.

Changes of the ledger are commands of the engine like others; what is kept here is gateway.desk's.
"""
