"""pytest-benchmark suites: `pytest bench` prints grouped tables of wall times."""
