"""Synthetic lesions, painted into aligned healthy lungs: what a network learns to find without having seen a disease.

A frame shows both lungs side by side, dense tissue is bright. Lengths and places are shares of the frame's height, so
that lesions keep their shape in frames that are not square.
"""

from .drawing import Levels, gray_levels
from .synthesis import KINDS, WEIGHTS, AddLesion, add_lesions

__all__ = ["KINDS", "WEIGHTS", "AddLesion", "Levels", "add_lesions", "gray_levels"]
