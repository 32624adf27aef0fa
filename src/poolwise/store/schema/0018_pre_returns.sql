-- Goods that come back. `document` is the return (store.codec); the other columns are those that people filter by.
CREATE TABLE customer_return (
    order_id uuid NOT NULL,
    id uuid NOT NULL,
    opened_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    cell smallint NOT NULL,
    number text COLLATE "C" NOT NULL,
    node text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL
    CHECK (state IN ('announced', 'received', 'inspected', 'closed', 'cancelled', 'refused')),
    document jsonb NOT NULL,
    PRIMARY KEY (cell, order_id, id)
);

CREATE INDEX customer_return_at_node ON customer_return (cell, node, state, opened_at, id);
CREATE INDEX customer_return_opened ON customer_return (cell, opened_at, id);

GRANT SELECT, INSERT, UPDATE ON customer_return TO poolwise_app;

-- How many there are: hardly any order has some.
ALTER TABLE customer_order ADD COLUMN returns smallint NOT NULL DEFAULT 0 CHECK (returns >= 0);

-- Since when a shipment is at its stage: the time to return goods begins then.
ALTER TABLE shipment ADD COLUMN stage_at timestamptz;
