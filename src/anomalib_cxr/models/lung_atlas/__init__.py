"""LungAtlas: healthy lungs warped into one frame; scores by how far others are from them, in several ways."""

from .lightning_model import LungAtlas
from .torch_model import LungAtlasModel

__all__ = ["LungAtlas", "LungAtlasModel"]
