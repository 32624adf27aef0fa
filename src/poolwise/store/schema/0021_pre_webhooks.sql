-- Receivers that subscribed to what happens (ADR 0020). Few rows, no cell. The secrets sign what is sent, so they are kept
-- as they are; they are taken away when the webhook ends.
CREATE TABLE webhook (
    id uuid PRIMARY KEY,
    party text COLLATE "C" NOT NULL,
    url text NOT NULL,
    types text[] NOT NULL,
    state text NOT NULL CHECK (state IN ('active', 'paused', 'disabled', 'ended')),
    reason text NOT NULL DEFAULT '',
    secret bytea NOT NULL,
    former_secret bytea,
    former_until timestamptz,
    made_at timestamptz NOT NULL,
    -- Since when every attempt has failed.
    failing_since timestamptz,
    -- The receiver asked to be left alone until then.
    held_until timestamptz,
    CHECK ((former_secret IS NULL) = (former_until IS NULL))
);

CREATE INDEX webhook_party ON webhook (party, id);

-- How far each has come in the feed of a cell; where there is no row, it has seen nothing of it.
CREATE TABLE webhook_place (
    cell smallint NOT NULL,
    webhook uuid NOT NULL REFERENCES webhook ON DELETE CASCADE,
    number bigint NOT NULL CHECK (number >= 0),
    PRIMARY KEY (cell, webhook)
);

-- What of the feed is on its way to a receiver, or was. The event itself stays in the outbox; below zero are pings.
CREATE TABLE delivery (
    cell smallint NOT NULL,
    webhook uuid NOT NULL REFERENCES webhook,
    number bigint NOT NULL,
    made_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    -- When it is to be sent. Whoever sends it moves this ahead, and so has it for himself until then.
    due timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    status smallint NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'done', 'failed')),
    reason text NOT NULL DEFAULT '',
    PRIMARY KEY (cell, webhook, number)
) WITH (fillfactor = 70);

CREATE INDEX delivery_due ON delivery (cell, webhook, due) WHERE state = 'waiting';

CREATE INDEX delivery_failed ON delivery (cell, webhook, number) WHERE state = 'failed';

CREATE INDEX delivery_done ON delivery (cell, changed_at) WHERE state = 'done';

GRANT SELECT, INSERT, UPDATE, DELETE ON webhook, webhook_place, delivery TO poolwise_app;
