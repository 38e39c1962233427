"""Training: one loop for every device, number of processes and task; exact resume."""
