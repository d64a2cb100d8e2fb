"""Runs one pod inside its Slurm job, as the pod's user."""
