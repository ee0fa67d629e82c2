"""A pass of a call that has run before: learnt at its first run, it is its allocations and launches alone."""
