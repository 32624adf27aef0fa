-- What happens to a shipment once it is planned: released to its node, shipped, delivered; short, declined.

-- Nodes that could not serve an order, or would not: it is sourced without them from then on.
ALTER TABLE customer_order ADD COLUMN declined text[] COLLATE "C" NOT NULL DEFAULT '{}';
ALTER TABLE customer_order DROP CONSTRAINT customer_order_state_check;
ALTER TABLE customer_order ADD CHECK (state IN (
    'basket', 'received', 'waiting', 'sourced', 'partly_backordered', 'backordered', 'released', 'shipped', 'cancelled'
));

ALTER TABLE shipment ADD COLUMN stage text COLLATE "C" NOT NULL DEFAULT 'planned'
CHECK (stage IN ('planned', 'released', 'shipped', 'delivered', 'failed'));

-- What nodes and carriers have said of a shipment, in the order in which we heard it; `at` is when it happened.
CREATE TABLE milestone (
    owner uuid NOT NULL,
    id uuid NOT NULL,
    at timestamptz NOT NULL,
    told_at timestamptz NOT NULL,
    shipment_no bigint NOT NULL,
    cell smallint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    told_by text COLLATE "C" NOT NULL,
    detail jsonb NOT NULL,
    PRIMARY KEY (cell, owner, id)
);

-- Positions where somebody did not find what should be there, until they are counted.
CREATE TABLE count_task (
    position bigint NOT NULL,
    cause uuid NOT NULL,
    since timestamptz NOT NULL,
    cell smallint NOT NULL,
    PRIMARY KEY (cell, position)
);

GRANT SELECT, INSERT ON milestone TO poolwise_app;
GRANT SELECT, INSERT, DELETE ON count_task TO poolwise_app;
