"""Who people are: accounts, passwords, sessions, second factors and the tokens given for them.

Personal data lives in the database rwa_auth and nowhere else; the ledger sees opaque ids only.
"""
