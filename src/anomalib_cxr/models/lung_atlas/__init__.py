"""LungAtlas: aligns both lungs to a common frame and scores their deviation from healthy lungs."""

from .lightning_model import LungAtlas
from .torch_model import LungAtlasModel

__all__ = ["LungAtlas", "LungAtlasModel"]
