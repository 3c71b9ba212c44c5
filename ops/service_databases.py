"""The databases of the services that keep something of their own: accounts and administration.

They are on the log's server under the specification's names, unless DURIAN_AUTH_URL and
DURIAN_DESK_URL name others.
"""

from engine.postgres.provision import Migration, Schema, provision_schema
from gateway.desk import schema as desk
from gateway.identity import schema as identity
from ops.databases import ensure_database, with_database

AUTH_DATABASE = "rwa_auth"
DESK_DATABASE = "mining_admin_db"


def auth_url_beside(postgres_url: str) -> str:
    """The same server and role, database rwa_auth."""
    return with_database(postgres_url, AUTH_DATABASE)


def desk_url_beside(postgres_url: str) -> str:
    """The same server and role, database mining_admin_db."""
    return with_database(postgres_url, DESK_DATABASE)


def provision_auth(owner_url: str, *, password: str) -> Migration:
    """Database, schema and role of the accounts. Raises StoreUnavailable, SchemaVersion."""
    ensure_database(owner_url, variable="DURIAN_AUTH_URL")
    wanted = Schema(
        migrations=identity.MIGRATIONS,
        version=identity.VERSION,
        roles={identity.ROLE: password},
    )
    return provision_schema(owner_url, wanted)


def provision_desk(owner_url: str, *, password: str) -> Migration:
    """Database, schema and role of the administration. Raises StoreUnavailable, SchemaVersion."""
    ensure_database(owner_url, variable="DURIAN_DESK_URL")
    wanted = Schema(migrations=desk.MIGRATIONS, version=desk.VERSION, roles={desk.ROLE: password})
    return provision_schema(owner_url, wanted)
