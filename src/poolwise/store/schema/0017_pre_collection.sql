-- Shipments that the customer collects at a node, be it the one they lie at or one they are sent to.

ALTER TABLE shipment ADD COLUMN collect_at text COLLATE "C" NOT NULL DEFAULT '';

-- What each collection point waits for or has to hand out, in the order in which it leaves its node.
CREATE INDEX shipment_to_collect ON shipment (cell, collect_at, stage, ship_on, owner, no)
WHERE collect_at <> '' AND stage IN ('released', 'picked', 'shipped', 'ready');
