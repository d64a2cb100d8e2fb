"""The node agent: makes a Slurm cluster a node of Kubernetes."""
