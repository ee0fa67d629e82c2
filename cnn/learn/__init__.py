"""Training: settings, sessions and their records, checkpoints, several processes."""
