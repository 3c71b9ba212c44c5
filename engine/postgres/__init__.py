"""The log on PostgreSQL: the eventsourcing library's recorder, extended, and its roles and tables."""
