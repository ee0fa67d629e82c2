"""torch's own tests, run on this package: `python -m tests.conformance` prints the score."""
