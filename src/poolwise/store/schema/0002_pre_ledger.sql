-- The stock ledger: positions, journal, receipts, reservations, capacity. Laws 1, 2, 3, 6, 9, 14.
--
-- `cell` is first in every key (DESIGN section 3). There are no foreign keys between hot tables: they would cost a
-- trigger for each row of a batch; `poolwise check` proves what they would. Codes sort by code point, as in Python.

-- Law 1: the accounts sum to zero and only `outside` is negative. Nothing that changes is indexed, and half of every
-- page is free, so that an update stays in its page and touches no index.
CREATE TABLE position (
    id bigint NOT NULL,
    outside bigint NOT NULL,
    expected bigint NOT NULL CHECK (expected >= 0),
    pledged bigint NOT NULL CHECK (pledged >= 0),
    in_transit bigint NOT NULL CHECK (in_transit >= 0),
    available bigint NOT NULL CHECK (available >= 0),
    reserved bigint NOT NULL CHECK (reserved >= 0),
    blocked bigint NOT NULL CHECK (blocked >= 0),
    version bigint NOT NULL CHECK (version >= 0),
    -- Never goes back: the time of a position's movements rises with their versions.
    moved_at timestamptz NOT NULL,
    expires_on date,
    cell smallint NOT NULL,
    item text COLLATE "C" NOT NULL,
    node text COLLATE "C" NOT NULL,
    pool text COLLATE "C" NOT NULL,
    lot text COLLATE "C" NOT NULL,
    PRIMARY KEY (cell, id),
    UNIQUE (cell, item, node, pool, lot),
    CONSTRAINT position_sums_to_zero
    CHECK (outside + expected + pledged + in_transit + available + reserved + blocked = 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- The journal. Accounts are numbered in the order of core.ledger.ACCOUNTS. A transfer writes a row for each side, which
-- passes through that side's own outside; `other_position` names the other side. Law 3: `version` is the position's
-- after the movement; the conditional UPDATE of the position guards it across months.
-- The time of the movement rises with the version, so a state as of an instant is read backwards by primary key.
-- `occurred_at` is when it happened, where that was earlier than when it was recorded: a balance as of then knows it.
CREATE TABLE movement (
    position bigint NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    quantity bigint NOT NULL CHECK (quantity > 0),
    at timestamptz NOT NULL,
    cause_id uuid NOT NULL,
    other_position bigint,
    occurred_at timestamptz,
    month date NOT NULL,
    cell smallint NOT NULL,
    source smallint NOT NULL CHECK (source BETWEEN 0 AND 6),
    target smallint NOT NULL CHECK (target BETWEEN 0 AND 6),
    cause text COLLATE "C" NOT NULL,
    PRIMARY KEY (cell, position, version, month),
    CHECK (source <> target)
) PARTITION BY RANGE (month);

-- Expected inbound stock. Law 2: pledged, arrived and cancelled units never exceed it.
CREATE TABLE receipt (
    id uuid NOT NULL,
    position bigint NOT NULL,
    quantity bigint NOT NULL CHECK (quantity >= 0),
    pledged bigint NOT NULL CHECK (pledged >= 0),
    arrived bigint NOT NULL CHECK (arrived >= 0),
    cancelled bigint NOT NULL CHECK (cancelled >= 0),
    sequence bigint NOT NULL,
    due_on date NOT NULL,
    cell smallint NOT NULL,
    announced boolean NOT NULL,
    reference text COLLATE "C" NOT NULL,
    -- The position's item, so that open receipts are found by item.
    item text COLLATE "C" NOT NULL,
    PRIMARY KEY (cell, id),
    UNIQUE (cell, position, reference),
    CONSTRAINT receipt_open CHECK (pledged + arrived + cancelled <= quantity)
);

-- Pledging changes nothing that is indexed.
CREATE INDEX receipt_expected ON receipt (cell, item) WHERE arrived + cancelled < quantity;

-- Law 6: every unit ends once - consumed, freed, expired or broken - or is still set aside.
CREATE TABLE reservation (
    owner uuid NOT NULL,
    position bigint NOT NULL,
    quantity bigint NOT NULL CHECK (quantity > 0),
    line_quantity bigint NOT NULL CHECK (line_quantity >= 0),
    consumed bigint NOT NULL DEFAULT 0 CHECK (consumed >= 0),
    freed bigint NOT NULL DEFAULT 0 CHECK (freed >= 0),
    expired bigint NOT NULL DEFAULT 0 CHECK (expired >= 0),
    broken bigint NOT NULL DEFAULT 0 CHECK (broken >= 0),
    made_at timestamptz NOT NULL,
    expires_at timestamptz,
    receipt uuid,
    no bigint NOT NULL,
    shipment_no bigint NOT NULL,
    line_no integer NOT NULL,
    cell smallint NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('soft', 'hard')),
    PRIMARY KEY (cell, owner, no),
    CONSTRAINT reservation_ends_once CHECK (consumed + freed + expired + broken <= quantity)
) WITH (fillfactor = 80);

-- What is still set aside at a position. Its cell is the position's only when order and stock share one.
CREATE INDEX reservation_open ON reservation (cell, position) WHERE consumed + freed + expired + broken < quantity;

CREATE INDEX reservation_made_at ON reservation USING brin (made_at) WITH (pages_per_range = 32, autosummarize = on);

-- Law 14: what is taken of a node's slot, the sum of its bookings, between zero and the limit. `limit_quantity` is the
-- limit under which it was taken: a limit that falls below what is booked already refuses more and breaks nothing.
CREATE TABLE capacity (
    taken bigint NOT NULL CHECK (taken >= 0),
    limit_quantity bigint,
    day date NOT NULL,
    slot integer NOT NULL,
    cell smallint NOT NULL,
    node text COLLATE "C" NOT NULL,
    PRIMARY KEY (cell, day, node, slot),
    CONSTRAINT capacity_within_limit CHECK (taken <= limit_quantity)
) WITH (fillfactor = 50);

-- The newest statement about a position that was accepted; older ones are ignored (law 9).
CREATE TABLE count_mark (
    position bigint NOT NULL,
    sequence bigint,
    as_of timestamptz NOT NULL,
    cell smallint NOT NULL,
    PRIMARY KEY (cell, position)
) WITH (fillfactor = 80);
