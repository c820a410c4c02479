"""Lung segmentation: network, training, post-processing, prediction, experiment and deployment."""
