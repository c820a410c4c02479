"""RoiSureGanomaly as a model of anomalib: training, checkpoints, and what surrounds the networks.

Source: B. Wang, "Anomaly Detection in Chest X-Ray Screening based on Adversarial Screening", MSc dissertation,
University of Birmingham, 2022.
"""

from __future__ import annotations

from typing import cast

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.visualization import Visualizer
from torch import nn
from torch.optim import Adam, Optimizer

from anomalib_cxr.errors import SettingError
from anomalib_cxr.functional import Distance
from anomalib_cxr.functional.alignment import Alignment
from anomalib_cxr.functional.normalization import Normalization
from anomalib_cxr.models.base.module import RadiographModule, resolve_pre_processor
from anomalib_cxr.models.base.pre_processor import RoiPreProcessor
from anomalib_cxr.models.base.reproducible import drawn_from
from anomalib_cxr.models.base.segmenter import LungsFirst, lung_masks
from anomalib_cxr.models.networks.dcgan import Discriminator, initialize_dcgan

from .adversary import AdversaryName, choose_adversary
from .healthy_scores import HealthyScores
from .loss import GeneratorLoss, Reconstruction, ReconstructionLoss
from .lung_frame import LIKELY, Seen, View
from .members import GeneratorName
from .scores import ScoreName
from .settings import ARCHITECTURE, ARCHITECTURE_BEFORE, Calibration, Channels, InputRegion, Target, check_settings
from .torch_model import RoiSureGanomalyModel
from .training import ContestTraining

FRAMED = 2
"""Side of the X-rays from which a frame of the lungs is taken, in sides of the frame: lungs fill half of an X-ray or
more, so that the frame is not blurred."""


class RoiSureGanomaly(LungsFirst, HealthyScores, ContestTraining, RadiographModule, AnomalibModule):  # type: ignore[misc]  # as anomalib's own mix
    """Learns to paint healthy lungs, and scores by how far two encoders disagree about what was painted.

    An encoder-decoder sees the full X-ray and paints only its lungs; a second encoder reads the painting. Adversarial
    feature matching makes the painting look real, Stein's unbiased risk estimate (SURE) makes it close to the CLEAN
    lungs. Trained on healthy images only; no mask is needed to score. For research, not a medical device.

    With `target: image` and `reconstruction: l1` it is GANomaly; `generator`, `adversary` and `input_region` make
    others of its relatives. All these choices are independent of each other.

    Args:
        image_size: Side of the square that the network sees: 32, 64, 128, 256 or 512.
        reconstruction: `sure`, `pg_sure` (for Poisson-Gaussian noise), `l2` (the dissertation's Oracle) or `l1`.
        target: What is painted: `lungs` (training images need lung masks) or the whole `image` that is seen.
        input_region: What the network sees: the whole `image`, or the `lungs` that a segmenter cuts out.
        segmenter: Path of a segmenter of `anomalib-cxr segment train`, where one is needed: for `input_region: lungs`,
            an alignment, `normalization: lung` and `calibration: exposure`; None trains one on the lung masks of the
            training images before the first epoch. A checkpoint keeps it.
        segmenter_steps: Batches that it is trained on.
        alignment: `none`; `box` shows the networks the rectangle around the lungs that the segmenter finds; `rows` both
            lungs side by side, each row stretched from edge to edge. X-rays then come in at twice `image_size`.
        normalization: Of what they see: `global` for gray values as they come; `lung` for standard deviations from the
            mean in the lungs, `local` from that around each pixel, both clamped at three and scaled into [-1, 1].
        score: `latent`, the distance of the two codes; `residual`, the logarithm of the mean squared difference between
            what is seen and the painting, in the lungs of a `rows` frame, else where lungs were painted, or found;
            `mahalanobis`, the logarithmic distance of the first code from those of the training images.
        calibration: `none`, or `exposure`: the score in standard deviations above what healthy images of such an
            exposure score, fitted to cross-fitted scores of the training images; of one hospital it knows that one.
        n_folds: Members, each a painter, second encoder and discriminator of its own that learns from all training
            images but those of one fold; the score is the mean of theirs, in logarithms. Time and memory grow with it.
        generator: Network that paints: `dcgan`, or `residual_unet` with skip connections.
        adversary: `feature_matching`, or `wgan_gp`: a Wasserstein critic with gradient penalty.
        distance: Distance of codes and features, in losses and score: `euclidean`, or `mean_squared` as GANomaly has.
        n_channels: Channels of the networks: 1, or 3 copies of the gray one as GANomaly's original settings have it.
        sigma: Standard deviation of the noise that `sure` assumes, in the scale of [-1, 1]; not known of real X-rays.
            It is that of what the networks see: in a frame that of the interpolated X-ray, and with `normalization:
            lung` or `local` in units of three standard deviations. For `pg_sure` that of the noise in black.
        gain: Growth of the noise's variance with the intensity above black that `pg_sure` assumes, in the same scale.
        tau: Length of the finite difference of `sure` and `pg_sure`, in the scale of [-1, 1].
        w_adv: Weight of the adversary's term; at 0 the discriminator is left alone, and 9 of 16 passes are left.
        w_enc: Weight of the agreement of the codes; at 0 the second encoder stays as it was made.
        w_rec: Weight of the reconstruction.
        w_gp: Weight of the gradient penalty of `wgan_gp`.
        n_critic: Steps of the critic of `wgan_gp` for each of the generator.
        instance_noise: Standard deviation of the noise that is added to what the discriminator sees, in the scale of
            [-1, 1]; it falls in a line to 0 in the last epoch.
        latent_dim: Length of the codes.
        n_features: Channels after the first convolution; doubled by each further one.
        max_features: Cap on the channels; None for none.
        lr: Learning rate of Adam, for generator and discriminator.
        betas: Adam's averaging coefficients.
        accumulate_grad_batches: Batches whose mean gradient makes a step, where memory is too small for a larger batch.
            Batch normalization sees each of them by itself. Lightning's own argument is for automatic optimization.
        seed: Seed of weights, order of the images and probes; None for the state of torch's own random numbers.
        pre_processor: True for :class:`RoiPreProcessor`; False where images arrive in [-1, 1] at `image_size`.
        post_processor: As in anomalib; True normalizes by the validation set's minimum and maximum, and thresholds by
            F1.
        evaluator: As in anomalib; True for image AUROC on validation and for image and pixel AUROC and F1 on test.
        visualizer: As in anomalib.

    Raises:
        SettingError: If a setting is out of range.

    Example:
        >>> model = RoiSureGanomaly(image_size=64, n_features=8, latent_dim=10)
        >>> model.eval()(torch.rand(1, 3, 100, 80)).pred_score.shape
        torch.Size([1])
    """

    architecture = ARCHITECTURE
    architecture_before = ARCHITECTURE_BEFORE
    remedy = "lower lr, or sigma and gain where reconstruction is sure or pg_sure"
    training_only: tuple[str, ...] = ("discriminator",)
    model: RoiSureGanomalyModel
    discriminator: nn.Module

    def __init__(
        self,
        image_size: int = 256,
        reconstruction: Reconstruction = "sure",
        target: Target = "lungs",
        input_region: InputRegion = "image",
        segmenter: str | None = None,
        segmenter_steps: int = 300,
        alignment: Alignment = "none",
        normalization: Normalization = "global",
        score: ScoreName = "latent",
        calibration: Calibration = "none",
        n_folds: int = 1,
        generator: GeneratorName = "dcgan",
        adversary: AdversaryName = "feature_matching",
        distance: Distance = "euclidean",
        n_channels: Channels = 1,
        sigma: float = 0.05,
        gain: float = 0.002,
        tau: float = 0.01,
        w_adv: float = 1.0,
        w_enc: float = 1.0,
        w_rec: float = 50.0,
        w_gp: float = 10.0,
        n_critic: int = 5,
        instance_noise: float = 0.0,
        latent_dim: int = 100,
        n_features: int = 64,
        max_features: int | None = None,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        accumulate_grad_batches: int = 1,
        seed: int | None = None,
        pre_processor: RoiPreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        check_settings(locals())
        super().__init__(
            pre_processor=resolve_pre_processor(
                pre_processor, image_size if alignment == "none" else FRAMED * image_size
            ),
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        self.automatic_optimization = False
        self.target = target
        self.segmenter = segmenter
        self.segmenter_steps = segmenter_steps
        self.distance = distance
        self.instance_noise = instance_noise
        self.lr = lr
        self.betas = (float(betas[0]), float(betas[1]))  # Adam refuses 0 beside 0.9
        self.accumulate_grad_batches = accumulate_grad_batches
        self.seed = seed
        self.n_folds = n_folds
        self._rng_states_to_resume = {}
        self.adversary = choose_adversary(adversary, distance=distance, n_critic=n_critic, w_gp=w_gp)
        with drawn_from(seed):
            self.model = RoiSureGanomalyModel(
                image_size,
                latent_dim,
                n_features,
                max_features,
                generator=generator,
                distance=distance,
                n_channels=n_channels,
                whole_image=target == "image",
                view=View(image_size, alignment, normalization, lungs_only=input_region == "lungs"),
                score=score,
                exposure_calibrated=calibration == "exposure",
                n_folds=n_folds,
            )
            discriminators = [
                Discriminator(image_size, n_features, max_features, n_channels, self.adversary.norm).apply(
                    initialize_dcgan
                )
                for _ in range(n_folds)
            ]
        self.discriminator = discriminators[0]
        self.other_discriminators = nn.ModuleList(discriminators[1:]) if n_folds > 1 else None
        if n_folds > 1:
            self.training_only = ("discriminator", "other_discriminators")
        # What has no weight learns nothing: distributed training is not to wait for its gradients.
        for discriminator in self.discriminators:
            discriminator.requires_grad_(w_adv > 0)
        for member in self.model.members:
            member.encoder.requires_grad_(w_enc > 0)
        self.reconstruction_loss = ReconstructionLoss(reconstruction, sigma, tau, gain)
        self.generator_loss = GeneratorLoss(w_adv, w_enc, w_rec)

    def configure_optimizers(self) -> list[Optimizer]:
        """Return Adam for each member's generator (painter and second encoder) and for its discriminator, in turn."""
        pairs = zip(self.model.members, self.discriminators, strict=True)
        learning = [
            weights for member, discriminator in pairs for weights in (member.learning, discriminator.parameters())
        ]
        return [Adam(weights, lr=self.lr, betas=self.betas, fused=True) for weights in learning]

    def on_fit_start(self) -> None:
        """Refuse instance noise in a training whose last epoch is not known, and members in several processes.

        A process whose share of a batch holds images of one fold only has nothing for that member, and the others would
        wait for it.
        """
        if self.n_folds > 1 and self.trainer.world_size > 1:
            raise SettingError(
                f"n_folds = {self.n_folds} in {self.trainer.world_size} processes",
                "one process, or a single member",
                "set trainer.devices: 1 and trainer.num_nodes: 1, or n_folds: 1",
            )
        if self.instance_noise and (self.trainer.max_epochs or 0) < 1:
            raise SettingError(
                f"instance_noise = {self.instance_noise} and trainer.max_epochs = {self.trainer.max_epochs}",
                "a number of epochs, over which the noise falls to 0",
                "set trainer.max_epochs, or instance_noise: 0",
            )
        super().on_fit_start()

    def training_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Update each member and its discriminator by the images that it is to see."""
        seen = self.model.see(cast("torch.Tensor", batch.image))
        mask, folds = self._target_mask(batch, seen), self.folds(batch)
        contests, each_terms, each_value = [], [], []
        for number, contest in enumerate(self.contests()):
            known = slice(None) if folds is None else folds != number
            image = seen.image[known]
            if len(image):
                with self.drawing_apart():
                    terms, values = self.losses_of(contest, image, None if mask is None else mask[known], batch_idx)
                contests.append(contest)
                each_terms.append(terms)
                each_value.append(values.get("l_dc"))

        losses = [terms[name] for terms in each_terms for name in ("l_gen", "l_dc") if name in terms]
        if self.step_all(torch.stack(losses).sum(), batch_idx):
            for contest, value in zip(contests, each_value, strict=True):
                self.restart_winner(contest, value)
        means = {name: torch.stack([terms[name] for terms in each_terms]).mean() for name in each_terms[0]}
        self.log_dict(means, on_step=False, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=len(seen.image))

    def _target_mask(self, batch: ImageBatch, seen: Seen) -> torch.Tensor | None:
        """Return where there is something to paint, `(B, 1, H, W)`, or None where that is all that is seen."""
        if self.target == "image":
            return seen.region
        mask = lung_masks(batch, "target = 'lungs'")
        if seen.frame.place is not None:
            mask = (seen.frame.of(mask) > LIKELY).to(mask.dtype)
        return mask if seen.region is None else mask * seen.region
