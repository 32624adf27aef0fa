-- What became of the picks of each node, by class of items: order lines that were found there, and missed.
CREATE TABLE pick_outcome (
    found bigint NOT NULL CHECK (found >= 0),
    missed bigint NOT NULL CHECK (missed >= 0),
    cell smallint NOT NULL,
    item_class text COLLATE "C" NOT NULL,
    node text COLLATE "C" NOT NULL,
    PRIMARY KEY (cell, item_class, node)
) WITH (fillfactor = 50);

CREATE INDEX pick_outcome_of_node ON pick_outcome (cell, node, item_class);

GRANT SELECT, INSERT, UPDATE ON pick_outcome TO poolwise_app;
