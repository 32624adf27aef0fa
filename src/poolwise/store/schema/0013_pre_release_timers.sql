-- Orders that were sourced before there was releasing: each is looked at on the day on which the first of it leaves.
INSERT INTO timer (cell, kind, subject, due_at)
SELECT s.cell, 'release_shipments', s.owner, min(s.ship_on)::timestamp AT TIME ZONE 'UTC'
FROM shipment AS s
WHERE s.stage = 'planned'
GROUP BY s.cell, s.owner
ON CONFLICT DO NOTHING;
