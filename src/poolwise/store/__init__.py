"""Where it is kept: the only SQL, and the memory books that pass the same contract."""
