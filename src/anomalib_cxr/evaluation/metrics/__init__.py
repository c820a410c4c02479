"""Metrics of screening scores, with confidence intervals."""
