"""Shapes shared by all rooms: events, commands, views, wire messages. Data only, no I/O, no rules.

The one arithmetic here is what clients must be able to repeat: accrual and amounts.
"""
