"""What does I/O and more than one component needs."""
