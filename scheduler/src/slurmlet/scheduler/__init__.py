"""First-node scheduler."""
