"""0001: the log as it was before versions were kept: one table, one head row, two roles' rights.

IF NOT EXISTS everywhere, so that a ledger made before there were migrations gets its number.
"""

from engine.postgres.migrations.connection import execute

revision = "0001"
down_revision = None


def upgrade() -> None:
    execute(TABLES, RIGHTS)


TABLES = """
CREATE TABLE IF NOT EXISTS public.ledger_events (
    originator_id text NOT NULL,
    originator_version bigint NOT NULL,
    topic text NOT NULL,
    state bytea NOT NULL,
    notification_id bigint NOT NULL,
    epoch bigint NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (originator_id, originator_version)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.5, autovacuum_analyze_scale_factor = 0.05);

CREATE UNIQUE INDEX IF NOT EXISTS ledger_events_notification_id_idx
    ON public.ledger_events (notification_id);

CREATE TABLE IF NOT EXISTS public.ledger_events_head (
    id int PRIMARY KEY CHECK (id = 1),
    epoch bigint NOT NULL,
    position bigint NOT NULL,
    hash bytea NOT NULL
) WITH (fillfactor = 10);

INSERT INTO public.ledger_events_head VALUES (1, 0, 0, decode(repeat('00', 32), 'hex'))
    ON CONFLICT DO NOTHING;

CREATE OR REPLACE FUNCTION public.durian_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % refused: the event log is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE OR REPLACE TRIGGER append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON public.ledger_events
    FOR EACH STATEMENT EXECUTE FUNCTION public.durian_refuse_change();
"""

RIGHTS = """
REVOKE ALL ON public.ledger_events, public.ledger_events_head FROM PUBLIC;
GRANT SELECT, INSERT ON public.ledger_events TO durian_log_writer;
GRANT SELECT, UPDATE (epoch, position, hash) ON public.ledger_events_head TO durian_log_writer;
GRANT SELECT ON public.ledger_events, public.ledger_events_head TO durian_log_reader;
"""
