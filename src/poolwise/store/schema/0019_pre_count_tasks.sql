-- Count tasks are read node by node, oldest first, and say which shipment of which order they come from.

ALTER TABLE count_task ADD COLUMN node text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE count_task ADD COLUMN order_id uuid;
ALTER TABLE count_task ADD COLUMN shipment_no bigint;
UPDATE count_task AS t
SET node = p.node
FROM position AS p
WHERE p.cell = t.cell AND p.id = t.position;
CREATE INDEX count_task_of_node ON count_task (cell, node, since, position);
