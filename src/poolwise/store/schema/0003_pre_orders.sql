-- Demand: orders, where their lines stand, what waits to be sourced, and the decisions. Laws 3, 5, 8, 10, 13, 17.

-- `document` is the order as accepted (store.codec); the other columns are those that people filter by, and where the
-- order stands. The person is a contact's id inside the document, nothing else (law 17).
-- `attempt` is the guard of law 3: a decision for an order is recorded together with the UPDATE that raises its attempt
-- by exactly one, so (order, attempt) is unique in this unpartitioned row, at no cost of its own.
CREATE TABLE customer_order (
    id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    attempt integer NOT NULL CHECK (attempt >= 0),
    cell smallint NOT NULL,
    state text COLLATE "C" NOT NULL,
    number text COLLATE "C" NOT NULL,
    channel text COLLATE "C" NOT NULL,
    zone text COLLATE "C" NOT NULL,
    customer text COLLATE "C" NOT NULL,
    service_level text COLLATE "C" NOT NULL,
    document bytea NOT NULL,
    PRIMARY KEY (cell, id),
    CHECK (state IN (
        'basket', 'received', 'waiting', 'sourced', 'partly_backordered', 'backordered', 'cancelled'
    ))
) WITH (fillfactor = 50);

CREATE INDEX customer_order_received ON customer_order (cell, received_at, id);

-- A summarising index does not hinder updates inside a page. It finds what changed since the last check.
CREATE INDEX customer_order_changed
ON customer_order USING brin (changed_at) WITH (pages_per_range = 32, autosummarize = on);

-- The sender's number is unique in the whole organisation. Its cell is crc32(number) modulo 256, so that the number
-- alone leads to the row; `order_cell` is where the order lives.
CREATE TABLE order_number (
    order_id uuid NOT NULL,
    cell smallint NOT NULL,
    order_cell smallint NOT NULL,
    number text COLLATE "C" NOT NULL,
    PRIMARY KEY (cell, number)
);

-- Law 13: ordered = open + reserved + pledged + backordered + released + shipped + cancelled.
CREATE TABLE order_line (
    order_id uuid NOT NULL,
    ordered bigint NOT NULL CHECK (ordered > 0),
    open bigint NOT NULL CHECK (open >= 0),
    reserved bigint NOT NULL CHECK (reserved >= 0),
    pledged bigint NOT NULL CHECK (pledged >= 0),
    backordered bigint NOT NULL CHECK (backordered >= 0),
    released bigint NOT NULL CHECK (released >= 0),
    shipped bigint NOT NULL CHECK (shipped >= 0),
    cancelled bigint NOT NULL CHECK (cancelled >= 0),
    no integer NOT NULL,
    cell smallint NOT NULL,
    item text COLLATE "C" NOT NULL,
    PRIMARY KEY (cell, order_id, no),
    CONSTRAINT order_line_conserved
    CHECK (ordered = open + reserved + pledged + backordered + released + shipped + cancelled)
) WITH (fillfactor = 50);

-- Demand that waits, with everything the worker needs (ADR 0008); an order waits at most once in a queue. `alone` marks
-- large orders, which are claimed by themselves.
CREATE TABLE todo (
    since timestamptz NOT NULL,
    order_id uuid NOT NULL,
    rank integer NOT NULL,
    cell smallint NOT NULL,
    alone boolean NOT NULL,
    queue text COLLATE "C" NOT NULL CHECK (queue IN ('at_once', 'next_wave', 'stock')),
    demand bytea NOT NULL,
    PRIMARY KEY (cell, order_id, queue)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- The order in which demand is claimed.
CREATE INDEX todo_claim ON todo (cell, queue, rank, since, order_id);

-- Which items the demands of queue 'stock' wait for, oldest first; written and deleted together with them.
CREATE TABLE todo_item (
    since timestamptz NOT NULL,
    order_id uuid NOT NULL,
    cell smallint NOT NULL,
    item text COLLATE "C" NOT NULL,
    PRIMARY KEY (cell, order_id, item)
);

CREATE INDEX todo_item_oldest ON todo_item (cell, item, since, order_id);

CREATE TABLE timer (
    due_at timestamptz NOT NULL,
    subject uuid NOT NULL,
    cell smallint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    PRIMARY KEY (cell, subject, kind)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE INDEX timer_due ON timer (cell, due_at, subject, kind);

CREATE TABLE shipment (
    owner uuid NOT NULL,
    weight_ug bigint NOT NULL CHECK (weight_ug >= 0),
    co2e_mg bigint NOT NULL CHECK (co2e_mg >= 0),
    ship_on date NOT NULL,
    arrive_by date NOT NULL,
    no bigint NOT NULL,
    cell smallint NOT NULL,
    node text COLLATE "C" NOT NULL,
    lanes text[] NOT NULL,
    PRIMARY KEY (cell, owner, no)
);

-- Capacity that a shipment has taken; `node` may lie in another cell than the owner.
CREATE TABLE booking (
    owner uuid NOT NULL,
    quantity bigint NOT NULL CHECK (quantity >= 0),
    day date NOT NULL,
    shipment_no bigint NOT NULL,
    no integer NOT NULL,
    slot integer NOT NULL,
    cell smallint NOT NULL,
    node text COLLATE "C" NOT NULL,
    PRIMARY KEY (cell, owner, shipment_no, no)
);

CREATE INDEX booking_day ON booking USING brin (day) WITH (pages_per_range = 32, autosummarize = on);

-- Law 8: what recomputes a decision. Partitions are named by the decision's month.
CREATE TABLE decision (
    owner uuid NOT NULL,
    batch uuid NOT NULL,
    at timestamptz NOT NULL,
    wave uuid,
    attempt integer NOT NULL CHECK (attempt > 0),
    policy_version integer NOT NULL,
    place integer NOT NULL,
    month date NOT NULL,
    cell smallint NOT NULL,
    edition text COLLATE "C" NOT NULL,
    policy text COLLATE "C" NOT NULL,
    release text COLLATE "C" NOT NULL,
    facts bytea NOT NULL,
    digest bytea NOT NULL,
    PRIMARY KEY (cell, owner, attempt, month)
) PARTITION BY RANGE (month);

CREATE INDEX decision_at ON decision USING brin (at) WITH (pages_per_range = 32, autosummarize = on);

-- The guard of law 3 for decisions whose owner is no order of the same commit, such as a wave: they are few, so a row
-- each is cheap.
CREATE TABLE decision_guard (
    owner uuid NOT NULL,
    attempt integer NOT NULL,
    cell smallint NOT NULL,
    PRIMARY KEY (cell, owner, attempt)
);

CREATE TABLE incident (
    id uuid NOT NULL,
    order_id uuid,
    at timestamptz NOT NULL,
    cell smallint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    cause text NOT NULL,
    PRIMARY KEY (cell, id)
);

CREATE INDEX incident_of_order ON incident (cell, order_id) WHERE order_id IS NOT NULL;

-- Law 17: the only table with personal data. Its cell is crc32(id) modulo 256.
CREATE TABLE contact (
    id uuid NOT NULL,
    made_at timestamptz NOT NULL,
    cell smallint NOT NULL,
    data jsonb NOT NULL,
    PRIMARY KEY (cell, id)
);
