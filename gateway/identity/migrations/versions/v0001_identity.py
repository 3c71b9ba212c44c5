"""0001: accounts, sessions, what delays guessing, codes, the outbox, and the record of it all.

Times are Unix milliseconds that the program gives. The services' role changes rows of these tables
and no others; of the record it can only add and read.
"""

from typing import Any, cast

import psycopg
from alembic import op

from gateway.first_answers import CREATE_FIRST_ANSWERS
from gateway.identity.schema import ROLE

revision = "0001"
down_revision = None


def upgrade() -> None:
    driver = cast("psycopg.Connection[Any]", op.get_bind().connection.driver_connection)
    for script in (_ACCOUNTS, _SESSIONS, _GUESSING, _CODES, _RECORD, CREATE_FIRST_ANSWERS, _RIGHTS):
        driver.execute(script.encode())


# The unique columns hold normalised text: gateway.identity.names.
_ACCOUNTS = """
CREATE TABLE public.accounts (
    user_id text COLLATE "C" PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    role text NOT NULL CHECK (role IN ('user', 'auditor', 'operator', 'admin')),
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled', 'erased')),
    user_name text COLLATE "C" UNIQUE,
    phone text COLLATE "C" UNIQUE,
    email text COLLATE "C" UNIQUE,
    password_hash text,
    created_ms bigint NOT NULL,
    totp_secret bytea,
    totp_pending bytea,
    totp_pending_ms bigint NOT NULL DEFAULT 0,
    totp_step bigint NOT NULL DEFAULT 0,
    totp_confirm_key bytea,
    totp_confirmed_ms bigint NOT NULL DEFAULT 0,
    recovery_codes bytea[] NOT NULL DEFAULT '{}',
    CHECK (state = 'erased' OR num_nonnulls(user_name, phone, email) > 0),
    CHECK (state <> 'erased' OR num_nonnulls(
        user_name, phone, email, password_hash, totp_secret, totp_pending) = 0)
);
CREATE INDEX accounts_staff ON public.accounts (role, number) WHERE role <> 'user';
CREATE INDEX accounts_state ON public.accounts (state, number) WHERE state <> 'active';
COMMENT ON TABLE public.accounts IS
    'personal data of an erased account is null, its id stays; number: order of registration;'
    ' totp_secret, totp_pending: encrypted; totp_step: the last one used, none counts twice';
"""

_SESSIONS = """
CREATE TABLE public.sessions (
    session_id text COLLATE "C" PRIMARY KEY,
    user_id text COLLATE "C" NOT NULL REFERENCES public.accounts,
    device text NOT NULL,
    network text NOT NULL,
    created_ms bigint NOT NULL,
    seen_ms bigint NOT NULL,
    expires_ms bigint NOT NULL,
    ended_ms bigint,
    generation int NOT NULL DEFAULT 0,
    current_digest bytea NOT NULL,
    previous_digest bytea,
    retry_digest bytea
);
CREATE INDEX sessions_of_user ON public.sessions (user_id, created_ms);
CREATE INDEX sessions_expiry ON public.sessions (expires_ms);
COMMENT ON TABLE public.sessions IS
    'one device and its family of refresh tokens, of which only the digest of the current one and'
    ' of the one before are kept; retry_digest: of the key the last rotation came with';
"""

# By a digest: what was typed as a name may be a password typed into the wrong field.
_GUESSING = """
CREATE TABLE public.sign_in_delays (
    about bytea PRIMARY KEY,
    failures int NOT NULL,
    failed_ms bigint NOT NULL,
    delayed_until_ms bigint NOT NULL
);
CREATE INDEX sign_in_delays_age ON public.sign_in_delays (failed_ms);
COMMENT ON TABLE public.sign_in_delays IS
    'wrong passwords in a row; about: digest of an account, or of what was typed as one';
"""

_CODES = """
CREATE TABLE public.reset_codes (
    user_id text COLLATE "C" PRIMARY KEY REFERENCES public.accounts,
    code_digest bytea NOT NULL,
    expires_ms bigint NOT NULL
);
CREATE TABLE public.outbox (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text COLLATE "C" NOT NULL REFERENCES public.accounts,
    purpose text NOT NULL,
    channel text NOT NULL,
    address text NOT NULL,
    code text NOT NULL,
    created_ms bigint NOT NULL,
    expires_ms bigint NOT NULL
);
COMMENT ON TABLE public.outbox IS
    'codes for an operator to hand over; a row is deleted when it is read or has expired';
"""

_RECORD = """
CREATE TABLE public.sign_in_records (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms bigint NOT NULL,
    what text COLLATE "C" NOT NULL,
    user_id text COLLATE "C",
    by_user_id text COLLATE "C",
    session_id text COLLATE "C",
    network text NOT NULL DEFAULT ''
);
CREATE INDEX sign_in_records_of_user ON public.sign_in_records (user_id, number);
COMMENT ON TABLE public.sign_in_records IS
    'append-only, without names; by_user_id: who did it to the user, when somebody else did';
"""

_RIGHTS = f"""
GRANT USAGE ON SCHEMA public TO {ROLE};
GRANT SELECT, INSERT, UPDATE ON public.accounts TO {ROLE};
GRANT SELECT, INSERT, UPDATE, DELETE ON public.sessions, public.sign_in_delays,
    public.reset_codes, public.first_answers TO {ROLE};
GRANT SELECT, INSERT, DELETE ON public.outbox TO {ROLE};
GRANT SELECT, INSERT ON public.sign_in_records TO {ROLE};
"""
