-- Law 2: whoever makes a position of an item, and whoever leaves demand for it short, locks its row here first. So no stock
-- comes to be where nobody looks. Positions of debts, which serve nobody, need no gate.
CREATE TABLE position_gate (
    cell smallint NOT NULL,
    item text COLLATE "C" NOT NULL,
    PRIMARY KEY (cell, item)
);

GRANT SELECT, INSERT, UPDATE ON position_gate TO poolwise_app;
