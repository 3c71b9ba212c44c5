"""The eventsourcing library's datastore, from one URL."""

from urllib.parse import unquote, urlsplit

from eventsourcing.postgres import PostgresDatastore


class LedgerDatastore(PostgresDatastore):
    """For LedgerRecorder; connects when it is used, not already when a recorder is made."""

    def register_type_adapters(self) -> None:
        """None are needed: LedgerRecorder sends no composite values."""


def datastore_of(
    url: str, *, pool_size: int = 1, kind: type[PostgresDatastore] = LedgerDatastore
) -> PostgresDatastore:
    """The datastore for postgresql://user:password@host:port/database.

    kind: PostgresDatastore for the library's own recorders. Raises ValueError if the URL lacks a
    part.
    """
    parts = urlsplit(url)
    if not (parts.hostname and parts.username and parts.path.strip("/")):
        raise ValueError("expected postgresql://user:password@host:port/database")
    return kind(
        dbname=unquote(parts.path.strip("/")),
        host=parts.hostname,
        port=parts.port or 5432,
        user=unquote(parts.username),
        password=unquote(parts.password or ""),
        pool_size=pool_size,
        originator_id_type="text",
    )
