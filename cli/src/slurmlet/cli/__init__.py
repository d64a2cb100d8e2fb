"""The command `slurmlet`, for users and administrators."""
