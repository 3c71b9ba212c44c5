"""0002: withdrawals, from the request to the payment or the return; the role's rights.

What was asked for never changes, nor does a decision; a trigger holds who may decide and which
state may follow which, whatever the program does.
"""

from typing import Any, cast

import psycopg
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    driver = cast("psycopg.Connection[Any]", op.get_bind().connection.driver_connection)
    for script in (_WITHDRAWALS, _STEPS, _RIGHTS):
        driver.execute(script.encode())


_WITHDRAWALS = """
CREATE TABLE public.withdrawals (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    withdrawal_id text COLLATE "C" NOT NULL UNIQUE,
    user_id text COLLATE "C" NOT NULL,
    requested_by text COLLATE "C" NOT NULL,
    asset_id text COLLATE "C" NOT NULL,
    amount_minor numeric NOT NULL CHECK (amount_minor >= 0 AND amount_minor = trunc(amount_minor)),
    destination text NOT NULL,
    trace text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL DEFAULT 'requested' CHECK (state IN
        ('requested', 'refused', 'pending', 'approved', 'rejected', 'cancelled', 'returned')),
    refusal bytea,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    decided_by text COLLATE "C",
    decided_at timestamptz,
    payout_reference text,
    reason text,
    position bigint,
    returned_position bigint,
    CHECK ((state IN ('requested', 'refused', 'pending')) = (decided_by IS NULL)),
    CHECK ((state = 'refused') = (refusal IS NOT NULL)),
    CHECK ((state = 'approved') = (payout_reference IS NOT NULL)),
    CONSTRAINT two_persons CHECK
        (state NOT IN ('approved', 'rejected') OR decided_by NOT IN (user_id, requested_by))
);
CREATE INDEX ON public.withdrawals (user_id, number);
CREATE INDEX ON public.withdrawals (user_id, state, number);
CREATE INDEX ON public.withdrawals (state, number);
COMMENT ON COLUMN public.withdrawals.destination IS
    'personal data; empty once the person was erased';
"""

_STEPS = """
CREATE FUNCTION public.durian_check_withdrawal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.state, NEW.state) NOT IN (('requested', 'pending'), ('requested', 'refused'),
        ('refused', 'pending'),
        ('pending', 'approved'), ('pending', 'rejected'), ('pending', 'cancelled'),
        ('rejected', 'returned'), ('cancelled', 'returned'))
        AND (OLD.state <> NEW.state OR NEW.destination <> '')
    THEN
        RAISE EXCEPTION 'a withdrawal goes from % to %', OLD.state, NEW.state;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER steps BEFORE UPDATE ON public.withdrawals
    FOR EACH ROW EXECUTE FUNCTION public.durian_check_withdrawal();
"""

_RIGHTS = """
REVOKE ALL ON public.withdrawals FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE (state, refusal, decided_by, decided_at, payout_reference, reason,
    position, returned_position, destination) ON public.withdrawals TO durian_desk;
"""
