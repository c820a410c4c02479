"""Synthetic chest X-rays."""
