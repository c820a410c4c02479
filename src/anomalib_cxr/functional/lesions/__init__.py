"""Synthetic lesions in aligned healthy lungs, as training data for lesion detection without diseased images.

A frame shows both lungs side by side, dense tissue bright. Lengths and positions are shares of the frame's height, so
that lesions keep their shape in frames that are not square.
"""

from .drawing import Levels, gray_levels
from .kinds import KINDS, WEIGHTS, AddLesion
from .synthesis import add_lesions

__all__ = ["KINDS", "WEIGHTS", "AddLesion", "Levels", "add_lesions", "gray_levels"]
