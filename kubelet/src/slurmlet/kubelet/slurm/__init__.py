"""What the agent asks of Slurm: text of squeue, sacct and sinfo, and what it means."""
