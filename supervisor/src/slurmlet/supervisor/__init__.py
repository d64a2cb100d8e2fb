"""Runs a pod inside its Slurm job, as the pod's user: `python -I -m slurmlet.supervisor`."""
