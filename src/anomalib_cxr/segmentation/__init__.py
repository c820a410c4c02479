"""Finding the lungs: a network, its training and its clean-up. It reads no X-ray files: that is for `data`."""
