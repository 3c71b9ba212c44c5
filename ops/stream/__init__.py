"""A client of /v1/stream: connects, subscribes, merges, and comes back where it was cut off."""
