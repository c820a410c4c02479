"""Inference pipeline: inputs, quality check, model, explanation."""
