-- What a delivery is about, so that an order's timeline tells what was sent of it.
ALTER TABLE delivery ADD COLUMN subject text COLLATE "C" NOT NULL DEFAULT '';
CREATE INDEX delivery_subject ON delivery (cell, subject) WHERE subject <> '';
