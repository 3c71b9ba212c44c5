"""Views as pure folds of the log, and the one way in which they reach Redis: batch and
checkpoint together.

klines, burns, ticker, trades, pool, balances and contributions are arithmetic only: no I/O,
clock or chance. Redis, Kafka and Faust appear in redis_views and agents alone. Nothing here
decides; the log is the truth.
"""
