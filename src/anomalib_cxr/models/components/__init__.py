"""Parts that models share: networks and the pre-processor."""

from .dcgan import Decoder, Discriminator, Encoder, initialise_dcgan
from .pre_processor import RoiPreProcessor

__all__ = ["Decoder", "Discriminator", "Encoder", "RoiPreProcessor", "initialise_dcgan"]
