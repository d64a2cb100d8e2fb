"""The pod sandbox: made by root in a job's prolog, used by its user, removed in its epilog."""
