-- Orders change, are held and cancelled; shipments are offered, picked, ready to be collected, or cancelled.

ALTER TABLE shipment DROP CONSTRAINT shipment_stage_check;
ALTER TABLE shipment ADD CHECK (stage IN (
    'planned', 'offered', 'released', 'picked', 'shipped', 'ready', 'delivered', 'failed', 'cancelled'
));

-- Reasons not to go on yet, each as 'code=what it blocks'. `former` are the documents of an order that was changed, each
-- with the attempt up to which decisions were made about it (store.codec); hardly any order has some.
ALTER TABLE customer_order ADD COLUMN holds text[] COLLATE "C" NOT NULL DEFAULT '{}';
ALTER TABLE customer_order ADD COLUMN former bytea;
CREATE INDEX customer_order_held ON customer_order (cell, changed_at, id) WHERE holds <> '{}';

-- Units that are blocked at a position since they were not found: a count finds them, or they are gone.
ALTER TABLE count_task ADD COLUMN units bigint NOT NULL DEFAULT 0 CHECK (units >= 0);
GRANT UPDATE ON count_task TO poolwise_app;

-- What nodes have in hand: released, and picked.
DROP INDEX shipment_released;
CREATE INDEX shipment_in_hand ON shipment (cell, node, stage, ship_on, owner, no)
WHERE stage IN ('released', 'picked', 'ready');
