"""Training hooks, one a file; each works alone in any ``DefaultTrainer``."""
