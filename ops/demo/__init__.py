"""Simulated users: a tape of real trades replayed on a virtual clock, and bots at wall-clock
speed.
"""
