"""0002: the log in partitions by position, its history index, answers, snapshots and archives.

The table that was the log becomes its first partition, without being copied. Streams are found by
the history index from now on, which is filled for the events that are there already. A writer that
still runs is fenced. What the indexes cost an append decided their shapes: docs/adr/0002.
"""

from engine.postgres.migrations.connection import connection, execute
from schemas.codecs import decode_event
from schemas.history import history_keys, stream_key

revision = "0002"
down_revision = "0001"

PARTITION_EVENTS = 10_000_000
READ_ROWS_PER_FETCH = 50_000


def upgrade() -> None:
    execute(_SETTINGS.replace("{partition_events}", str(_partition_events())))
    execute(_FIRST_PARTITION, _TABLES, _PARTITIONS, _ATTACH_FIRST)
    _fill_history()
    execute(_EXTEND, _INDEX, _RIGHTS)


def _partition_events() -> int:
    """Positions per partition; tests choose fewer by a setting of the session."""
    row = connection().execute("SELECT current_setting('durian.partition_events', true)").fetchone()
    return int((row and row[0]) or PARTITION_EVENTS)


def _fill_history() -> None:
    session = connection()
    with (
        session.cursor("old_events", binary=True) as events,
        session.cursor() as history,
    ):
        events.itersize = READ_ROWS_PER_FETCH
        events.execute(
            "SELECT notification_id, originator_id, state FROM public.ledger_events"
            " ORDER BY notification_id"
        )
        while rows := events.fetchmany(READ_ROWS_PER_FETCH):
            entries: dict[int, list[int]] = {}
            for position, stream, state in rows:
                for key in {stream_key(stream), *history_keys(decode_event(state))}:
                    entries.setdefault(key, []).append(position)
            with history.copy("COPY public.ledger_history FROM STDIN") as copy:
                for key in sorted(entries):
                    copy.write_row((key, entries[key][-1], entries[key]))


_SETTINGS = """
CREATE TABLE public.ledger_settings (
    id int PRIMARY KEY CHECK (id = 1),
    partition_events bigint NOT NULL CHECK (partition_events > 0)
);
COMMENT ON COLUMN public.ledger_settings.partition_events IS
    'positions of each partition made from now on';
INSERT INTO public.ledger_settings VALUES (1, {partition_events});
"""

# An index that is there becomes the primary key as it is: renaming and ALTER .. USING INDEX copy
# nothing.
_FIRST_PARTITION = """
ALTER TABLE public.ledger_events RENAME TO ledger_events_p000000000001;
ALTER TABLE public.ledger_events_p000000000001 DROP CONSTRAINT ledger_events_pkey;
ALTER TABLE public.ledger_events_p000000000001
    ALTER COLUMN originator_id TYPE text COLLATE "C";
ALTER INDEX public.ledger_events_notification_id_idx RENAME TO ledger_events_p000000000001_pkey;
ALTER TABLE public.ledger_events_p000000000001
    ADD PRIMARY KEY USING INDEX ledger_events_p000000000001_pkey;
"""

# The primary key bears the name that the eventsourcing library gives its index of positions, so
# that its CREATE INDEX IF NOT EXISTS finds it.
_TABLES = """
CREATE TABLE public.ledger_events (
    originator_id text COLLATE "C" NOT NULL,
    originator_version bigint NOT NULL,
    topic text NOT NULL,
    state bytea NOT NULL,
    notification_id bigint NOT NULL,
    epoch bigint NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT ledger_events_notification_id_idx PRIMARY KEY (notification_id)
) PARTITION BY RANGE (notification_id);

CREATE TABLE public.ledger_history (
    key bigint NOT NULL,
    last_position bigint NOT NULL,
    positions bigint[] NOT NULL,
    PRIMARY KEY (key, last_position)
) PARTITION BY RANGE (last_position);

COMMENT ON COLUMN public.ledger_history.positions IS
    'ascending; may reach back into the partition before, and to events that have been archived';

CREATE TABLE public.ledger_history_recent (
    first_position bigint PRIMARY KEY,
    keys bigint[] NOT NULL,
    indexes int[] NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE public.ledger_history_recent IS
    'one row a batch, until durian_index_history() moves it: key i is of first_position + index i';
ALTER TABLE public.ledger_history_recent
    ALTER COLUMN keys SET STORAGE EXTERNAL, ALTER COLUMN indexes SET STORAGE EXTERNAL;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public.ledger_events
    FOR EACH STATEMENT EXECUTE FUNCTION public.durian_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public.ledger_history
    FOR EACH STATEMENT EXECUTE FUNCTION public.durian_refuse_change();

ALTER TABLE public.ledger_events_head ADD COLUMN address text NOT NULL DEFAULT '';
UPDATE public.ledger_events_head SET epoch = epoch + 1 WHERE position > 0;

CREATE TABLE public.ledger_answers (
    id bigint PRIMARY KEY,
    at_ns bigint NOT NULL,
    records bytea NOT NULL
);

CREATE TABLE public.ledger_snapshots (
    position bigint NOT NULL,
    version int NOT NULL,
    log_hash bytea NOT NULL,
    digest bytea NOT NULL,
    body bytea NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (position, version)
);
ALTER TABLE public.ledger_snapshots ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE public.ledger_archives (
    first_position bigint PRIMARY KEY,
    last_position bigint NOT NULL,
    hash_before bytea NOT NULL,
    hash_after bytea NOT NULL,
    file_name text NOT NULL,
    sha256 bytea NOT NULL,
    bytes bigint NOT NULL,
    archived_at timestamptz NOT NULL DEFAULT now()
);
"""

# A partition is made apart and then attached, with a CHECK that spares ATTACH its scan: readers
# and the writer go on meanwhile, which CREATE TABLE .. PARTITION OF would not let them.
_PARTITIONS = r"""
CREATE VIEW public.ledger_partitions AS
SELECT substring(bound FROM 'FROM \(''(\d+)''\)')::bigint AS first_position,
       substring(bound FROM 'TO \(''(\d+)''\)')::bigint - 1 AS last_position,
       relname::text AS events_table,
       replace(relname, 'ledger_events_', 'ledger_history_') AS history_table
FROM (SELECT child.relname, pg_get_expr(child.relpartbound, child.oid) AS bound
      FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
      WHERE inhparent = 'public.ledger_events'::regclass) AS attached
WHERE bound IS NOT NULL;  -- null where a partition is dropped at this moment

CREATE FUNCTION public.durian_partition_name(parent text, first_position bigint) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT parent || '_p' || lpad(first_position::text, 12, '0') $$;

CREATE FUNCTION public.durian_make_partition(first_position bigint, beyond bigint)
RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    events text := durian_partition_name('ledger_events', first_position);
    history text := durian_partition_name('ledger_history', first_position);
BEGIN
    EXECUTE format('CREATE TABLE %I (LIKE ledger_events INCLUDING ALL,
        CONSTRAINT positions CHECK (notification_id >= %s AND notification_id < %s)) WITH (
        autovacuum_vacuum_insert_scale_factor = 0.5, autovacuum_analyze_scale_factor = 0.05)',
        events, first_position, beyond);
    EXECUTE format('CREATE TABLE %I (LIKE ledger_history INCLUDING ALL,
        CONSTRAINT positions CHECK (last_position >= %s AND last_position < %s)) WITH (
        autovacuum_vacuum_insert_scale_factor = 0.5, autovacuum_analyze_scale_factor = 0.05)',
        history, first_position, beyond);
END $$;

CREATE FUNCTION public.durian_attach_partition(first_position bigint, beyond bigint)
RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    parent text;
    part text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['ledger_events', 'ledger_history'] LOOP
        part := durian_partition_name(parent, first_position);
        EXECUTE format('CREATE OR REPLACE TRIGGER append_only
            BEFORE UPDATE OR DELETE OR TRUNCATE ON %I
            FOR EACH STATEMENT EXECUTE FUNCTION durian_refuse_change()', part);
        EXECUTE format('REVOKE ALL ON %I FROM PUBLIC, durian_log_writer', part);
        EXECUTE format('GRANT SELECT ON %I TO durian_log_writer, durian_log_reader', part);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
            parent, part, first_position, beyond);
        EXECUTE format('ALTER TABLE %I DROP CONSTRAINT IF EXISTS positions', part);
    END LOOP;
END $$;
"""

# A log longer than one partition becomes one partition all the same, up to the next full one.
_ATTACH_FIRST = """
DO $$
DECLARE
    size bigint := (SELECT partition_events FROM public.ledger_settings);
    head bigint := (SELECT position FROM public.ledger_events_head);
    beyond bigint := size * greatest(1, (head + size - 1) / size) + 1;
BEGIN
    CREATE TABLE public.ledger_history_p000000000001
        (LIKE public.ledger_history INCLUDING ALL) WITH (
        autovacuum_vacuum_insert_scale_factor = 0.5, autovacuum_analyze_scale_factor = 0.05);
    PERFORM public.durian_attach_partition(1, beyond);
END $$;
"""

# Harmless at any time: with nothing to do it takes no lock, it never makes readers or the writer
# wait, and it gives up soon where an archive run or another session is in the way.
_EXTEND = """
CREATE FUNCTION public.durian_extend_log() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '500ms'
AS $$
DECLARE
    size bigint;
    needed bigint;
    newest ledger_partitions%ROWTYPE;
    is_alone boolean := false;
BEGIN
    SELECT partition_events INTO STRICT size FROM ledger_settings;
    LOOP
        SELECT * INTO STRICT newest FROM ledger_partitions ORDER BY first_position DESC LIMIT 1;
        SELECT position + 1 + size INTO STRICT needed FROM ledger_events_head;
        EXIT WHEN newest.last_position >= needed;
        IF NOT is_alone THEN
            PERFORM pg_advisory_xact_lock(hashtext('durian extend log'));
            is_alone := true;
            CONTINUE;  -- another session may have made them meanwhile
        END IF;
        PERFORM durian_make_partition(newest.last_position + 1, newest.last_position + 1 + size);
        PERFORM durian_attach_partition(newest.last_position + 1, newest.last_position + 1 + size);
    END LOOP;
    RETURN newest.first_position;
END $$;
COMMENT ON FUNCTION public.durian_extend_log() IS
    'makes the partitions of the next event and the one after; returns where the newest begins';
SELECT public.durian_extend_log();
"""

# A B-tree entry per event would be half of an append's cost: batches are noted in one row each and
# sorted into the index later, many at once.
_INDEX = """
CREATE FUNCTION public.durian_index_history(keys_max int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    moved int;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('durian index history')) THEN
        RETURN 0;
    END IF;
    -- At most so many batches: with a long backlog, looking at all of it each time takes longest.
    WITH oldest AS (
        SELECT first_position, cardinality(keys) AS entries FROM ledger_history_recent
        ORDER BY first_position LIMIT 20000
    ), summed AS (
        SELECT first_position, sum(entries) OVER (ORDER BY first_position) - entries AS before
        FROM oldest
    ), taken AS (
        DELETE FROM ledger_history_recent WHERE first_position <=
            (SELECT max(first_position) FROM summed WHERE before < keys_max)
        RETURNING first_position, keys, indexes
    ), entries AS (
        SELECT key, first_position + index AS position
        FROM taken, unnest(keys, indexes) AS entry (key, index) ORDER BY 1, 2
    ), made AS (
        INSERT INTO ledger_history (key, last_position, positions)
        SELECT key, max(position), array_agg(position) FROM entries GROUP BY key
        RETURNING cardinality(positions) AS entries
    )
    SELECT coalesce(sum(entries), 0) INTO moved FROM made;
    RETURN moved;
END $$;
COMMENT ON FUNCTION public.durian_index_history(int) IS
    'moves about so many keys of the oldest batches into ledger_history; returns how many';
"""

_RIGHTS = """
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON public.ledger_events, public.ledger_history, public.ledger_history_recent,
    public.ledger_answers, public.ledger_snapshots, public.ledger_archives,
    public.ledger_settings, public.ledger_partitions, public.alembic_version FROM PUBLIC;
REVOKE ALL ON FUNCTION public.durian_extend_log(), public.durian_index_history(int),
    public.durian_make_partition(bigint, bigint), public.durian_attach_partition(bigint, bigint)
    FROM PUBLIC;
GRANT SELECT, INSERT ON public.ledger_events, public.ledger_history_recent TO durian_log_writer;
GRANT SELECT ON public.ledger_history TO durian_log_writer;
GRANT SELECT, INSERT, DELETE ON public.ledger_answers, public.ledger_snapshots
    TO durian_log_writer;
GRANT UPDATE (address) ON public.ledger_events_head TO durian_log_writer;
GRANT EXECUTE ON FUNCTION public.durian_extend_log(), public.durian_index_history(int)
    TO durian_log_writer;
GRANT SELECT ON public.ledger_events, public.ledger_history, public.ledger_history_recent,
    public.ledger_answers, public.ledger_snapshots TO durian_log_reader;
GRANT SELECT ON public.ledger_archives, public.ledger_settings, public.ledger_partitions,
    public.alembic_version TO durian_log_writer, durian_log_reader;
"""
