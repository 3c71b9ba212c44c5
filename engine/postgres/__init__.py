"""The log on PostgreSQL: eventsourcing's recorder, extended, and its tables and roles."""
