-- Demand that waits for stock stands in a line of the rules it was left short under, and in one of the day on which it
-- looks again. What waits already looks again once, under whatever rules; timers of new days are no more.
INSERT INTO todo_item (cell, item, since, order_id)
SELECT cell, ' =', since, order_id FROM todo WHERE queue = 'stock'
ON CONFLICT DO NOTHING;

DELETE FROM timer WHERE kind = 'new_day';
