"""0001: the five tables of a generation by month, which generation is live, and the roles' rights.

The writer appends rows and moves the checkpoint of a generation; months are made for it by a
function of the owner's. Generations are made, shown and dropped by the owner only.
"""

from typing import Any, cast

import psycopg
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    driver = cast("psycopg.Connection[Any]", op.get_bind().connection.driver_connection)
    for script in (_GENERATIONS, _MAKE, _EXTEND, _SHOW, _FIRST, _RIGHTS):
        driver.execute(script.encode())


_GENERATIONS = """
CREATE TABLE public.history_generations (
    name text PRIMARY KEY CHECK (name ~ '^[0-9]+$'),
    state text NOT NULL CHECK (state IN ('building', 'live', 'previous', 'retired')),
    position bigint NOT NULL DEFAULT 0,
    sequence bigint NOT NULL DEFAULT 0,
    kafka_offset bigint NOT NULL DEFAULT -1,
    epoch text NOT NULL DEFAULT '',
    fold bytea NOT NULL DEFAULT '',
    made_at timestamptz NOT NULL DEFAULT now(),
    source text NOT NULL DEFAULT '',
    switched_at timestamptz
) WITH (fillfactor = 20);
CREATE UNIQUE INDEX history_generations_live ON public.history_generations (state)
    WHERE state = 'live';
COMMENT ON TABLE public.history_generations IS
    'position, sequence, kafka_offset, epoch: the checkpoint of schema history_<name>, written in'
    ' the transaction that appends its rows; fold: what the fold needs besides them, as JSON;'
    ' retired: dropped by the next rebuild';
"""

# Numeric where an amount is meant: an asset of 18 decimals passes 64 bits. The BRIN indexes make a
# rebuild's comparison from a position on cheap; rows are appended in the log's order.
_MAKE = """
CREATE FUNCTION public.durian_make_history(generation text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home text := 'history_' || generation;
    made text;
BEGIN
    EXECUTE format('CREATE SCHEMA %I', home);
    EXECUTE format('CREATE TABLE %I.mining_transactions (
        position bigint NOT NULL,
        at_ns bigint NOT NULL,
        order_id bigint,
        trade_id bigint,
        user_id text COLLATE "C" NOT NULL,
        type text COLLATE "C" NOT NULL,
        asset_id text COLLATE "C" NOT NULL,
        available_minor numeric NOT NULL,
        held_minor numeric NOT NULL,
        market_id text COLLATE "C",
        reference text COLLATE "C",
        price_minor numeric,
        quantity_minor numeric,
        burned_minor numeric
    ) PARTITION BY RANGE (at_ns)', home);
    EXECUTE format('CREATE INDEX ON %I.mining_transactions (user_id, position)', home);
    EXECUTE format('CREATE TABLE %I.burn_records (
        position bigint NOT NULL,
        open_second bigint NOT NULL,
        source text COLLATE "C" NOT NULL,
        market_id text COLLATE "C",
        asset_id text COLLATE "C" NOT NULL,
        burned_minor numeric NOT NULL,
        trade_count int NOT NULL,
        cumulative_minor numeric NOT NULL,
        UNIQUE NULLS NOT DISTINCT (market_id, open_second, asset_id)
    ) PARTITION BY RANGE (open_second)', home);
    EXECUTE format('CREATE TABLE %I.minute_klines (
        position bigint NOT NULL,
        open_second bigint NOT NULL,
        first_position bigint NOT NULL,
        last_position bigint NOT NULL,
        trade_count int NOT NULL,
        market_id text COLLATE "C" NOT NULL,
        open numeric NOT NULL,
        high numeric NOT NULL,
        low numeric NOT NULL,
        close numeric NOT NULL,
        volume numeric NOT NULL,
        quote_volume numeric NOT NULL,
        taker_buy_volume numeric NOT NULL,
        taker_buy_quote_volume numeric NOT NULL,
        burned numeric NOT NULL,
        PRIMARY KEY (market_id, open_second)
    ) PARTITION BY RANGE (open_second)', home);
    EXECUTE format('CREATE TABLE %I.weight_changes (
        position bigint NOT NULL,
        from_second bigint NOT NULL,
        user_id text COLLATE "C" NOT NULL,
        weight numeric NOT NULL,
        entry_index numeric NOT NULL,
        entry_fraction numeric NOT NULL,
        settled_minor numeric NOT NULL
    ) PARTITION BY RANGE (from_second)', home);
    EXECUTE format('CREATE INDEX ON %I.weight_changes (user_id, from_second, position)', home);
    EXECUTE format('CREATE TABLE %I.index_marks (
        position bigint NOT NULL,
        open_second bigint NOT NULL,
        index numeric NOT NULL,
        allocated_minor numeric NOT NULL,
        PRIMARY KEY (open_second)
    ) PARTITION BY RANGE (open_second)', home);
    FOREACH made IN ARRAY ARRAY['mining_transactions', 'burn_records', 'minute_klines',
                                'weight_changes', 'index_marks'] LOOP
        EXECUTE format('CREATE INDEX ON %I.%I USING brin (position)
            WITH (pages_per_range = 32, autosummarize = on)', home, made);
        EXECUTE format('REVOKE ALL ON %I.%I FROM PUBLIC', home, made);
        EXECUTE format('GRANT SELECT, INSERT ON %I.%I TO durian_history_writer', home, made);
        EXECUTE format('GRANT SELECT ON %I.%I TO durian_history_reader', home, made);
    END LOOP;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO durian_history_writer, durian_history_reader',
        home);
END $$;
COMMENT ON FUNCTION public.durian_make_history(text) IS
    'makes the schema and the empty tables of a generation, without any month';
"""

# A month's tables are made apart and attached: readers and other writers go on meanwhile, which
# CREATE TABLE .. PARTITION OF would not let them.
_EXTEND = """
CREATE FUNCTION public.durian_extend_history(generation text, second bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home text := 'history_' || generation;
    begins timestamp := date_trunc('month', to_timestamp(second) AT TIME ZONE 'UTC');
    opens bigint := extract(epoch FROM begins AT TIME ZONE 'UTC');
    beyond bigint := extract(epoch FROM (begins + interval '1 month') AT TIME ZONE 'UTC');
    parent text;
    part text;
    unit bigint;
BEGIN
    PERFORM FROM public.history_generations WHERE name = generation;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the history has no generation %', generation
            USING ERRCODE = 'undefined_object';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('durian extend history'));
    FOREACH parent IN ARRAY ARRAY['mining_transactions', 'burn_records', 'minute_klines',
                                  'weight_changes', 'index_marks'] LOOP
        part := parent || to_char(begins, '_YYYY_MM');
        CONTINUE WHEN to_regclass(format('%I.%I', home, part)) IS NOT NULL;
        unit := CASE parent WHEN 'mining_transactions' THEN 1000000000 ELSE 1 END;
        EXECUTE format('CREATE TABLE %I.%I (LIKE %I.%I INCLUDING ALL) WITH (
            autovacuum_vacuum_insert_scale_factor = 0.5, autovacuum_analyze_scale_factor = 0.05)',
            home, part, home, parent);
        EXECUTE format('REVOKE ALL ON %I.%I FROM PUBLIC', home, part);
        EXECUTE format('ALTER TABLE %I.%I ATTACH PARTITION %I.%I FOR VALUES FROM (%s) TO (%s)',
            home, parent, home, part, opens * unit, beyond * unit);
    END LOOP;
END $$;
COMMENT ON FUNCTION public.durian_extend_history(text, bigint) IS
    'makes the tables of the month (UTC) that a Unix second falls into, where they are missing';
"""

_SHOW = """
CREATE FUNCTION public.durian_show_history(generation text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    shown text;
BEGIN
    FOREACH shown IN ARRAY ARRAY['mining_transactions', 'burn_records', 'minute_klines',
                                 'weight_changes', 'index_marks'] LOOP
        EXECUTE format('CREATE OR REPLACE VIEW public.%I AS SELECT * FROM %I.%I',
            shown, 'history_' || generation, shown);
    END LOOP;
    UPDATE public.history_generations SET state = 'retired' WHERE state = 'previous';
    UPDATE public.history_generations SET state = 'previous', switched_at = now()
        WHERE state = 'live';
    UPDATE public.history_generations SET state = 'live', switched_at = now()
        WHERE name = generation;
END $$;
COMMENT ON FUNCTION public.durian_show_history(text) IS
    'makes a generation the one that readers see and the projector writes; the one before stays';
"""

_FIRST = """
INSERT INTO public.history_generations (name, state) VALUES ('1', 'building');
SELECT public.durian_make_history('1');
SELECT public.durian_show_history('1');
"""

_RIGHTS = """
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON public.history_generations, public.mining_transactions, public.burn_records,
    public.minute_klines, public.weight_changes, public.index_marks, public.alembic_version
    FROM PUBLIC;
REVOKE ALL ON FUNCTION public.durian_make_history(text), public.durian_show_history(text),
    public.durian_extend_history(text, bigint) FROM PUBLIC;
GRANT SELECT ON public.history_generations, public.mining_transactions, public.burn_records,
    public.minute_klines, public.weight_changes, public.index_marks, public.alembic_version
    TO durian_history_writer, durian_history_reader;
GRANT UPDATE (position, sequence, kafka_offset, epoch, fold) ON public.history_generations
    TO durian_history_writer;
GRANT EXECUTE ON FUNCTION public.durian_extend_history(text, bigint) TO durian_history_writer;
"""
