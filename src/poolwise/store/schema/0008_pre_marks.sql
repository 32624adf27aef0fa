-- A snapshot renews every mark of a page at once: where half of it is free, they stay there, and no index is touched.
ALTER TABLE count_mark SET (fillfactor = 45);
