-- Shipments are offered to several nodes, until an instant, and the first that claims one has it (ADR 0018). Whom one was
-- offered to stays in its row: it tells who comes too late what happened.
ALTER TABLE shipment ADD COLUMN offered_to text[] COLLATE "C";
ALTER TABLE shipment ADD COLUMN offered_until timestamptz;
ALTER TABLE shipment ADD CONSTRAINT shipment_offered CHECK (
    stage <> 'offered' OR (cardinality(offered_to) > 0 AND offered_until IS NOT NULL)
);

-- What each node may claim. Rows that were never offered cost nothing.
CREATE INDEX shipment_offered_to ON shipment USING gin (offered_to)
WITH (fastupdate = off)
WHERE stage = 'offered';
