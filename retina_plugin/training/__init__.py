"""The training loop: ``RetinaTrainer``, its hooks, processes and the record of a run."""
