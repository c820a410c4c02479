"""Execution of the runs of a benchmark."""
