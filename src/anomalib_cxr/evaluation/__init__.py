"""Evaluation of trained models: scores, metrics, plots, and the report of a training."""
