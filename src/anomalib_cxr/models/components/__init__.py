"""Parts that models share: networks, what surrounds them, export, and trainings that are guarded and repeatable."""

from .dcgan import DcganGenerator, Decoder, Discriminator, Encoder, Judgement, Norm, initialise_dcgan
from .export import WholeExport
from .generator import Generator
from .guarded import GuardedTraining
from .lungs import FrozenSegmenter, lung_masks
from .lungs_first import LungsFirst
from .module import RadiographModule, resolve_pre_processor, to_grey
from .pre_processor import RoiPreProcessor
from .reproducible import ReproducibleTraining, drawn_from
from .residual_unet import ResidualEncoder, ResidualUnet
from .stepping import SteppedTraining
from .visualizer import RadiographVisualizer
from .wgan import ImageNorm, ResidualGenerator, ResidualTrunk, glorot_linear

__all__ = [
    "DcganGenerator",
    "Decoder",
    "Discriminator",
    "Encoder",
    "FrozenSegmenter",
    "Generator",
    "GuardedTraining",
    "ImageNorm",
    "Judgement",
    "LungsFirst",
    "Norm",
    "RadiographModule",
    "RadiographVisualizer",
    "ReproducibleTraining",
    "ResidualEncoder",
    "ResidualGenerator",
    "ResidualTrunk",
    "ResidualUnet",
    "RoiPreProcessor",
    "SteppedTraining",
    "WholeExport",
    "drawn_from",
    "glorot_linear",
    "initialise_dcgan",
    "lung_masks",
    "resolve_pre_processor",
    "to_grey",
]
