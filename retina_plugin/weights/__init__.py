"""Read and write checkpoints, and check that their weights fit the config beyond their shapes."""
