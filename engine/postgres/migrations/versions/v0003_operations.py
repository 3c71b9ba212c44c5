"""0003: the record of what operators did to the views: rebuilt, switched, rolled back, dropped.

Kept beside the log because it is a copy of nothing: append-only like the events, for the same
reasons and by the same trigger.
"""

from engine.postgres.migrations.connection import execute

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    execute(_TABLE, _RIGHTS)


_TABLE = """
CREATE TABLE public.ledger_operations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    operation text NOT NULL,
    projection text NOT NULL,
    outcome text NOT NULL,
    detail jsonb NOT NULL
);
COMMENT ON COLUMN public.ledger_operations.actor IS 'user@machine that ran the command';
COMMENT ON COLUMN public.ledger_operations.detail IS
    'generations, digests, positions by partition, counts, seconds';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public.ledger_operations
    FOR EACH STATEMENT EXECUTE FUNCTION public.durian_refuse_change();
"""

_RIGHTS = """
REVOKE ALL ON public.ledger_operations FROM PUBLIC;
GRANT SELECT, INSERT ON public.ledger_operations TO durian_log_writer;
GRANT SELECT ON public.ledger_operations TO durian_log_reader;
"""
