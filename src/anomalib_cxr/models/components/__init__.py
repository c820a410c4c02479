"""Parts that models share: networks, what surrounds them, export, and trainings that are guarded and repeatable."""

from .dcgan import Decoder, Discriminator, Encoder, Judgement, initialise_dcgan
from .export import WholeExport
from .guarded import GuardedTraining
from .module import RadiographModule, resolve_pre_processor, to_grey
from .pre_processor import RoiPreProcessor
from .reproducible import ReproducibleTraining, drawn_from
from .stepping import SteppedTraining
from .visualizer import RadiographVisualizer
from .wgan import ResidualGenerator, ResidualTrunk, glorot_linear

__all__ = [
    "Decoder",
    "Discriminator",
    "Encoder",
    "GuardedTraining",
    "Judgement",
    "RadiographModule",
    "RadiographVisualizer",
    "ReproducibleTraining",
    "ResidualGenerator",
    "ResidualTrunk",
    "RoiPreProcessor",
    "SteppedTraining",
    "WholeExport",
    "drawn_from",
    "glorot_linear",
    "initialise_dcgan",
    "resolve_pre_processor",
    "to_grey",
]
