"""The only root process on the head node: submit, cancel and read-log as the mapped user.

It trusts nobody: the peer must be the agent or root, every field is checked, the identity map is
its own, and whatever touches Slurm or a user's file happens in a child that has become that user.
"""
