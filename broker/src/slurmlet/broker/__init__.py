"""The only root process on the head node: submits, cancels and reads logs as the mapped user."""
