-- What each node works on, in the order in which it leaves. Shipments that are planned, or have left, are not in it.
CREATE INDEX shipment_released ON shipment (cell, node, ship_on, owner, no) WHERE stage = 'released';
