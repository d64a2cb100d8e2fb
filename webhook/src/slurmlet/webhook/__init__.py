"""Admission webhook."""
