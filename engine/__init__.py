"""The single writer: time and commands in, events to the log, the log to Kafka."""
