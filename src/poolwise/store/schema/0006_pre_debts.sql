-- Positions that hold what another one owes (core.counting). There are hardly any; snapshots ask for all of a cell.
CREATE INDEX position_debt ON position (cell) WHERE lot >= '~';
