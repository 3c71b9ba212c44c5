"""One module per version of the log's schema, named by its number: `revision` and `upgrade()`."""
