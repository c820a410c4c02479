"""Parts that models share: networks, pre-processing, pictures, export and repeatable training."""

from .dcgan import Decoder, Discriminator, Encoder, Judgement, initialise_dcgan
from .export import WholeExport
from .pre_processor import RoiPreProcessor
from .reproducible import ReproducibleTraining, drawn_from
from .visualizer import RadiographVisualizer

__all__ = [
    "Decoder",
    "Discriminator",
    "Encoder",
    "Judgement",
    "RadiographVisualizer",
    "ReproducibleTraining",
    "RoiPreProcessor",
    "WholeExport",
    "drawn_from",
    "initialise_dcgan",
]
