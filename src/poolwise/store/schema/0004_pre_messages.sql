-- Messages in, events out, and who did what. Laws 3, 4, 5, 7.

-- Messages that have had their effect. Unpartitioned, so that (sender, message) is unique for good (law 3). The cell is
-- crc32 of the message's id modulo 256.
CREATE TABLE inbox (
    at timestamptz NOT NULL,
    cell smallint NOT NULL,
    sender text COLLATE "C" NOT NULL,
    message text COLLATE "C" NOT NULL,
    PRIMARY KEY (cell, sender, message)
);

-- Law 5: the answer given under an idempotency key: a hash of the body and a reference, from which the answer is
-- rendered again (law 17: no body is kept). The cell is crc32 of the key modulo 256. Kept for 30 days.
CREATE TABLE answer (
    at timestamptz NOT NULL,
    cell smallint NOT NULL,
    status smallint NOT NULL,
    sender text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    body_hash bytea NOT NULL,
    reference text NOT NULL,
    PRIMARY KEY (cell, sender, key)
);

CREATE INDEX answer_at ON answer USING brin (at) WITH (pages_per_range = 32, autosummarize = on);

CREATE SEQUENCE outbox_no;

-- One row holds all events of a transaction for one cell, in order (store.codec). Numbers of rows commit out of order,
-- so they are no position in the feed: one sequencer per cell gives `first_seq` after the commit, by the order in which
-- it sees the rows. Packing is not tried again on what the codec has packed.
CREATE TABLE outbox (
    no bigint NOT NULL DEFAULT nextval('outbox_no'),
    first_seq bigint,
    at timestamptz NOT NULL,
    count integer NOT NULL CHECK (count > 0),
    month date NOT NULL,
    cell smallint NOT NULL,
    events bytea NOT NULL,
    PRIMARY KEY (cell, no, month)
) PARTITION BY RANGE (month);

ALTER TABLE outbox ALTER COLUMN events SET STORAGE EXTERNAL;

CREATE INDEX outbox_unnumbered ON outbox (cell, no) WHERE first_seq IS NULL;

CREATE INDEX outbox_feed ON outbox (cell, first_seq) WHERE first_seq IS NOT NULL;

CREATE INDEX outbox_at ON outbox USING brin (at) WITH (pages_per_range = 32, autosummarize = on);

-- How far the sequencer of a cell has numbered.
CREATE TABLE feed_position (
    cell smallint PRIMARY KEY,
    next_seq bigint NOT NULL CHECK (next_seq > 0)
);

CREATE SEQUENCE audit_no;

CREATE TABLE audit (
    no bigint NOT NULL DEFAULT nextval('audit_no'),
    at timestamptz NOT NULL,
    month date NOT NULL,
    cell smallint NOT NULL,
    actor text COLLATE "C" NOT NULL,
    action text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    detail jsonb NOT NULL,
    PRIMARY KEY (cell, no, month)
) PARTITION BY RANGE (month);

CREATE INDEX audit_subject ON audit (cell, subject);

CREATE INDEX audit_at ON audit USING brin (at) WITH (pages_per_range = 32, autosummarize = on);

-- What `poolwise check` has proven: every movement up to `version` was replayed and gave these balances (law 3).
CREATE TABLE verified_position (
    position bigint NOT NULL,
    version bigint NOT NULL,
    outside bigint NOT NULL,
    expected bigint NOT NULL,
    pledged bigint NOT NULL,
    in_transit bigint NOT NULL,
    available bigint NOT NULL,
    reserved bigint NOT NULL,
    blocked bigint NOT NULL,
    month date NOT NULL,
    cell smallint NOT NULL,
    PRIMARY KEY (cell, position)
) WITH (fillfactor = 50);

-- Up to when everything else was proven; what changed later is looked at next time.
CREATE TABLE verified_until (
    cell smallint PRIMARY KEY,
    at timestamptz NOT NULL
);
