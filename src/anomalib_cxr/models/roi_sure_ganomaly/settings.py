"""Settings of RoiSureGanomaly, in groups, with their ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from anomalib_cxr.functional.alignment import Alignment
from anomalib_cxr.functional.normalization import Normalization
from anomalib_cxr.models.networks.dcgan import Activation
from anomalib_cxr.utils.settings import Betas, NonNegativeFloat, PositiveFloat, PositiveInt

ImageSize = Literal[32, 64, 128, 256, 512]
ReconstructionTerm = Literal["sure", "l2", "l1", "pg_sure"]
Target = Literal["lungs", "image"]
ScoreName = Literal["latent", "residual", "mahalanobis"]
GeneratorName = Literal["dcgan", "residual_unet"]
SchemeName = Literal["feature_matching", "wgan_gp"]


@dataclass(frozen=True)
class NetworkSettings:
    """Networks.

    Args:
        generator: Network that reconstructs: `dcgan`, or `residual_unet` with skip connections.
        latent_dim: Length of the codes.
        n_features: Channels after the first convolution; doubled by each further one.
        max_features: Cap on the channels; None for none.
        n_channels: Channels of the networks: 1, or 3 copies of the gray one as GANomaly's original settings have it.
        decoder_activation: Activation in the decoder of `dcgan`: `leaky_relu` as in the dissertation, or `relu` as in
            GANomaly; `residual_unet` has its own.
    """

    generator: GeneratorName = "dcgan"
    latent_dim: PositiveInt = 100
    n_features: PositiveInt = 64
    max_features: PositiveInt | None = None
    n_channels: Literal[1, 3] = 1
    decoder_activation: Activation = "leaky_relu"


@dataclass(frozen=True)
class LungSettings:
    """Input of the networks: crop, alignment and normalization by the lungs.

    Args:
        input_region: The whole `image`, or the `lungs` as segmented, on black.
        alignment: `none`; `box` crops to the bounding box of the lungs; `rows` puts both lungs side by side, each row
            stretched from edge to edge. X-rays then come in at twice `image_size`.
        normalization: `global` for gray values as they come; `lung` for standard deviations from the mean in the lungs,
            `local` from that around each pixel, both clamped at three and scaled into [-1, 1].
        segmenter: Path of a segmenter of `anomalib-cxr segment train`, where one is needed: for `input_region: lungs`,
            an alignment, `normalization: lung` and exposure adjustment; None trains one on the lung masks of the
            training images before the first epoch, and takes that of the package if they have none. A checkpoint
            keeps it.
        segmenter_steps: Batches of that training.
    """

    input_region: Literal["image", "lungs"] = "image"
    alignment: Alignment = "none"
    normalization: Normalization = "global"
    segmenter: str | None = None
    segmenter_steps: PositiveInt = 300

    @property
    def needs_segmenter(self) -> bool:
        """Return True where the input depends on a segmentation."""
        return self.input_region == "lungs" or self.alignment != "none" or self.normalization == "lung"


@dataclass(frozen=True)
class SureSettings:
    """Noise model of the risk estimates, in the scale of [-1, 1]; not known of real X-rays.

    Args:
        sigma: Standard deviation of the noise that `sure` assumes, of the networks' input: in an aligned input that of
            the interpolated X-ray, and with `normalization: lung` or `local` in units of three standard deviations. For
            `pg_sure` that of the noise in black.
        gain: Growth of the noise's variance with the intensity above black that `pg_sure` assumes.
        tau: Length of the finite difference of `sure` and `pg_sure`.
    """

    sigma: NonNegativeFloat = 0.05
    gain: NonNegativeFloat = 0.002
    tau: PositiveFloat = 0.01


@dataclass(frozen=True)
class AdversarySettings:
    """Adversarial training.

    Args:
        scheme: `feature_matching`, or `wgan_gp`: a Wasserstein critic with gradient penalty.
        n_critic: Steps of the critic of `wgan_gp` for each of the generator.
        gradient_penalty: Weight of the gradient penalty of `wgan_gp`.
        instance_noise: Standard deviation of the noise that is added to the discriminator's input, in the scale of
            [-1, 1]; it falls linearly to 0 in the last epoch.
    """

    scheme: SchemeName = "feature_matching"
    n_critic: PositiveInt = 5
    gradient_penalty: NonNegativeFloat = 10.0
    instance_noise: NonNegativeFloat = 0.0


@dataclass(frozen=True)
class LossWeights:
    """Weights of the generator's loss.

    Args:
        adversarial: Weight of the adversarial term; at 0 the discriminator is not trained.
        latent: Weight of the agreement of the codes; at 0 the second encoder is not trained.
        reconstruction: Weight of the reconstruction term.
    """

    adversarial: NonNegativeFloat = 1.0
    latent: NonNegativeFloat = 1.0
    reconstruction: NonNegativeFloat = 50.0


@dataclass(frozen=True)
class OptimizerSettings:
    """Adam, for generator and discriminator.

    Args:
        lr: Learning rate.
        betas: Averaging coefficients.
        accumulate_grad_batches: Batches whose mean gradient makes a step, where memory is too small for a larger batch.
            Batch normalization uses the statistics of each of them. Lightning's own argument is for automatic
            optimization.
    """

    lr: PositiveFloat = 2e-4
    betas: Betas = (0.5, 0.999)
    accumulate_grad_batches: PositiveInt = 1


@dataclass(frozen=True)
class EnsembleSettings:
    """Ensemble over folds of the training images.

    Args:
        n_folds: Size of the ensemble: each generator, second encoder and discriminator is trained without one fold; the
            score is the mean of theirs, in logarithms. Time and memory grow with it.
        exposure_adjustment: Express the score in standard deviations above that of healthy images of the same exposure,
            by a regression on cross-fitted scores of the training images; needs `n_folds` of at least 2.
    """

    n_folds: PositiveInt = 1
    exposure_adjustment: bool = False


NETWORK_SHAPE = ("generator", "latent_dim", "n_features", "max_features", "n_channels", "decoder_activation")
ARCHITECTURE = (
    "image_size",
    "target",
    "score",
    "distance",
    *(f"network.{name}" for name in NETWORK_SHAPE),
    *(f"lungs.{name}" for name in ("input_region", "alignment", "normalization")),
    "adversary.scheme",
    *(f"ensemble.{name}" for name in ("n_folds", "exposure_adjustment")),
)
"""Settings without which a checkpoint's weights do not fit or mean something else."""


def find_conflicts(
    network: NetworkSettings,
    lungs: LungSettings,
    adversary: AdversarySettings,
    optimizer: OptimizerSettings,
    ensemble: EnsembleSettings,
) -> dict[str, tuple[object, str]]:
    """Return settings of the model that do not go together.

    Args:
        network: Networks.
        lungs: Input of the networks.
        adversary: Adversarial training.
        optimizer: Adam.
        ensemble: Ensemble and exposure adjustment.

    Returns:
        Value and expectation by dotted name, of the settings in conflict.

    Example:
        >>> lungs = LungSettings(segmenter="a.pt")
        >>> others = AdversarySettings(), OptimizerSettings(), EnsembleSettings()
        >>> list(find_conflicts(NetworkSettings(), lungs, *others))
        ['lungs.segmenter']
    """
    conflicts: dict[str, tuple[object, str]] = {}
    if network.generator != "dcgan" and network.decoder_activation != NetworkSettings.decoder_activation:
        conflicts["network.decoder_activation"] = (
            network.decoder_activation,
            f"{NetworkSettings.decoder_activation} with network.generator: {network.generator}, which has its own",
        )
    if lungs.segmenter is not None and not (lungs.needs_segmenter or ensemble.exposure_adjustment):
        conflicts["lungs.segmenter"] = (
            lungs.segmenter,
            "null, or a path where lungs.* or ensemble.exposure_adjustment need a segmenter",
        )
    if ensemble.exposure_adjustment and ensemble.n_folds == 1:
        conflicts["ensemble.exposure_adjustment"] = (
            ensemble.exposure_adjustment,
            "false, or true with ensemble.n_folds >= 2: scores of images that were trained on do not represent others",
        )
    if optimizer.accumulate_grad_batches != 1 and adversary.scheme == "wgan_gp" and adversary.n_critic != 1:
        conflicts["optimizer.accumulate_grad_batches"] = (
            optimizer.accumulate_grad_batches,
            "1 where the critic of wgan_gp takes steps of its own (adversary.n_critic > 1)",
        )
    return conflicts
