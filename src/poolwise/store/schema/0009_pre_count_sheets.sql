-- What a snapshot finds unchanged is marked as counted by the thousand: one row for a part of a node's positions
-- (ADR 0013). The mark of a position is, time and sequence each by itself, the greatest of what its row in count_mark
-- and its sheet say (law 9). `positions` rise; `which` is each one's place in `as_ofs` and `sequences`, from 1.
CREATE TABLE count_sheet (
    positions bigint[] NOT NULL DEFAULT '{}',
    which integer[] NOT NULL DEFAULT '{}',
    as_ofs timestamptz[] NOT NULL DEFAULT '{}',
    -- -1 where there is none.
    sequences bigint[] NOT NULL DEFAULT '{}',
    part smallint NOT NULL,
    cell smallint NOT NULL,
    node text COLLATE "C" NOT NULL,
    PRIMARY KEY (cell, node, part)
) WITH (fillfactor = 50);

-- Numbers of positions are hashes: to try to compress them is in vain.
ALTER TABLE count_sheet ALTER COLUMN positions SET STORAGE EXTERNAL;

GRANT SELECT, INSERT, UPDATE ON count_sheet TO poolwise_app;

-- A row of count_mark ends when its sheet says the same.
GRANT DELETE ON count_mark TO poolwise_app;
