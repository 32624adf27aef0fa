"""What Poolwise decides and books: pure functions on frozen values; no I/O, clock, randomness, ids or logging."""
