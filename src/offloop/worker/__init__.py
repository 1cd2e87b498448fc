"""The worker's side: all that a worker process imports."""
