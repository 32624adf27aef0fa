"""The simulated world: a generated network on real geography and the demand it meets. Equal seeds, equal worlds."""
