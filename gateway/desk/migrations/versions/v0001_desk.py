"""0001: the record of who did what, intents, approvals, jobs, first answers; the role's rights.

The record is append-only: the role has no right to change it, and a trigger refuses it even to the
owner. Of an approval only the decision can be written, and never by whoever proposed it.
"""

from typing import Any, cast

import psycopg
from alembic import op

from gateway.first_answers import CREATE_FIRST_ANSWERS

revision = "0001"
down_revision = None


def upgrade() -> None:
    driver = cast("psycopg.Connection[Any]", op.get_bind().connection.driver_connection)
    for script in (_RECORDS, _APPROVALS, _INTENTS, _JOBS, CREATE_FIRST_ANSWERS, _RIGHTS):
        driver.execute(script.encode())


# One chain: no two rows follow the same one.
_RECORDS = """
CREATE TABLE public.records (
    id bigint PRIMARY KEY CHECK (id > 0),
    at_ms bigint NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    who text COLLATE "C" NOT NULL,
    role text COLLATE "C" NOT NULL,
    action text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,
    phase text COLLATE "C" NOT NULL CHECK (phase IN ('done', 'intent', 'outcome')),
    outcome text COLLATE "C" NOT NULL CHECK (outcome IN ('', 'accepted', 'refused')),
    intent_id bigint REFERENCES public.records,
    approval_id bigint,
    details text NOT NULL,
    previous_hash bytea NOT NULL UNIQUE,
    hash bytea NOT NULL UNIQUE,
    CHECK ((phase = 'outcome') = (intent_id IS NOT NULL))
);
CREATE INDEX ON public.records (who, id);
CREATE INDEX ON public.records (action, id);
CREATE INDEX ON public.records (target, id);
CREATE UNIQUE INDEX ON public.records (intent_id);
COMMENT ON TABLE public.records IS
    'who did what; hash: SHA-256 of the row and of the hash before, see gateway.desk.records';
CREATE FUNCTION public.durian_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % refused: the record is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public.records
    FOR EACH STATEMENT EXECUTE FUNCTION public.durian_refuse_change();
"""

_APPROVALS = """
CREATE TABLE public.approvals (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,
    proposal bytea NOT NULL,
    reason text NOT NULL,
    proposed_by text COLLATE "C" NOT NULL,
    proposed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    state text COLLATE "C" NOT NULL DEFAULT 'pending' CHECK (state IN
        ('pending', 'approved', 'executed', 'refused', 'rejected', 'withdrawn')),
    decided_by text COLLATE "C",
    decided_at timestamptz,
    position bigint,
    code text,
    CONSTRAINT two_persons CHECK (decided_by <> proposed_by OR state = 'withdrawn'),
    CHECK ((state = 'pending') = (decided_by IS NULL))
);
CREATE INDEX ON public.approvals (state, id);
COMMENT ON COLUMN public.approvals.state IS
    'approved: decided, its command is on its way to the ledger; executed, refused: its answer';
"""

_INTENTS = """
CREATE TABLE public.intents (
    record_id bigint PRIMARY KEY REFERENCES public.records,
    who text COLLATE "C" NOT NULL,
    key_digest bytea,
    request_digest bytea,
    engine_key text COLLATE "C" NOT NULL UNIQUE,
    target text COLLATE "C" NOT NULL,
    command bytea NOT NULL,
    approval_id bigint UNIQUE REFERENCES public.approvals,
    answer bytea,
    position bigint,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (who, key_digest)
);
CREATE INDEX ON public.intents (record_id) WHERE answer IS NULL;
CREATE INDEX ON public.intents (target, position);
COMMENT ON TABLE public.intents IS
    'commands that the record says were begun; answer: null until it is known';
"""

_JOBS = """
CREATE TABLE public.jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL DEFAULT 'queued' CHECK (state IN
        ('queued', 'running', 'done', 'found_wrong', 'failed', 'cancelled', 'lost')),
    requested_by text COLLATE "C" NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    runner text NOT NULL DEFAULT '',
    heard_at timestamptz,
    progress_ppm int NOT NULL DEFAULT 0 CHECK (progress_ppm BETWEEN 0 AND 1000000),
    eta_seconds int,
    is_cancelling boolean NOT NULL DEFAULT false,
    exit_code int,
    result text NOT NULL DEFAULT '',
    log_tail text NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX jobs_one_at_a_time ON public.jobs (kind, name)
    WHERE state IN ('queued', 'running');
CREATE INDEX ON public.jobs (state, id);
"""

_RIGHTS = """
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON public.records, public.intents, public.approvals, public.jobs, public.first_answers,
    public.alembic_version FROM PUBLIC;
GRANT SELECT ON public.alembic_version TO durian_desk;
GRANT SELECT, INSERT ON public.records TO durian_desk;
GRANT SELECT, INSERT, UPDATE (answer, position) ON public.intents TO durian_desk;
GRANT SELECT, INSERT, UPDATE (state, decided_by, decided_at, position, code)
    ON public.approvals TO durian_desk;
GRANT SELECT, INSERT, UPDATE (state, started_at, finished_at, runner, heard_at, progress_ppm,
    eta_seconds, is_cancelling, exit_code, result, log_tail) ON public.jobs TO durian_desk;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.first_answers TO durian_desk;
"""
