"""Score the validation images in other ways than a model does in use, to show what the way alone makes of AUROC.

Batch normalization in training mode normalizes an image by the statistics of its batch. GANomaly's public code scores
that way, since it never switches to inference. A batch that holds one class only then tells the class.

Source: S. Akcay et al., "GANomaly", ACCV 2018, `lib/model.py` and `lib/data.py` of its public code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from anomalib_cxr.benchmark.plan.grid import BATCH_STATISTICS, BY_CLASS, CONTROL, VALIDATION, ScoringWay
from anomalib_cxr.errors import DatasetError
from anomalib_cxr.evaluation.metrics.delong import estimate_auroc
from anomalib_cxr.functional import frozen_running_statistics
from anomalib_cxr.models.base.segmenter import FrozenSegmenter


class LabeledBatch(NamedTuple):
    """Images as the model takes them, with labels that are true or only assigned."""

    images: torch.Tensor
    """As the pre-processor leaves them, `(N, C, H, W)`."""
    is_sick: torch.Tensor
    """`(N,)`, bool."""


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Let batch normalizations use the statistics of each batch inside the block; their running ones stay as they are.

    A frozen lung segmenter is left in inference.

    Args:
        network: The network.

    Yields:
        Nothing.

    Example:
        >>> norm = nn.BatchNorm1d(1).eval()
        >>> with batch_statistics(norm):
        ...     normalized = norm(torch.tensor([[4.0], [6.0]]))
        >>> normalized.flatten().round(), norm.running_mean, norm.training
        (tensor([-1.,  1.], grad_fn=<RoundBackward0>), tensor([0.]), False)
    """
    frozen = {norm for part in network.modules() if isinstance(part, FrozenSegmenter) for norm in part.modules()}
    norms = [norm for norm in network.modules() if isinstance(norm, _BatchNorm) and norm not in frozen]
    modes = [norm.training for norm in norms]
    for norm in norms:
        norm.train()
    try:
        with frozen_running_statistics(network):
            yield
    finally:
        for norm, mode in zip(norms, modes, strict=True):
            norm.train(mode)


def batches_of(is_sick: torch.Tensor, way: ScoringWay, size: int, seed: int) -> list[torch.Tensor]:
    """Divide images, in random order, into the batches that are scored together.

    Args:
        is_sick: Labels, `(N,)`, bool.
        way: Way of scoring; `by_class` puts images of one label into each batch.
        size: Largest batch; as with a data loader, the last one of a class may be smaller.
        seed: Seed of the order.

    Returns:
        Indices of each batch; together all images once.

    Example:
        >>> is_sick = torch.tensor([True, False, True, False])
        >>> batches = batches_of(is_sick, ScoringWay("batch_statistics", "by_class"), 32, seed=0)
        >>> [sorted(batch.tolist()) for batch in batches]
        [[1, 3], [0, 2]]
    """
    order = torch.randperm(len(is_sick), generator=torch.Generator().manual_seed(seed))
    groups = [order[is_sick[order] == label] for label in (False, True)] if way.batches == BY_CLASS else [order]
    return [batch for group in groups for batch in torch.split(group, size)]


class ScoringRecorder(Callback):
    """Callback that scores the validation images after each epoch in several ways, and healthy images as a control.

    The control takes training images, at random as many as validation has, and calls them normal and sick in the same
    proportion. A way of scoring that is fair ranks them at 0.5.

    Args:
        ways: Ways of scoring.
        seed: Seed of the mixture of batches, and of the control.
    """

    def __init__(self, ways: Sequence[ScoringWay], seed: int) -> None:
        self.ways = ways
        self.seed = seed
        self.rows: list[dict[str, Any]] = []
        self._control: LabeledBatch | None = None
        self._validated: list[LabeledBatch] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far, in types that a checkpoint may hold."""
        return {"rows": self.table().to_dict("list")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state."""
        self.rows = pd.DataFrame(state_dict["rows"]).to_dict("records")

    def table(self) -> pd.DataFrame:
        """Return the AUROC of each epoch.

        Returns:
            A row for each epoch, way and kind of images, with the columns `epoch`, `scoring`, `batches`, `images`
            (`validation` or `control`), `value`, `variance`, `low`, `high`, `n_normal` and `n_sick`.
        """
        table: pd.DataFrame = pd.DataFrame(self.rows)
        return table

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop the images of the previous epoch."""
        del trainer, pl_module
        self._validated = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the images of a batch, as the pre-processor has left them."""
        del trainer, pl_module, outputs, args, kwargs
        self._validated.append(LabeledBatch(batch.image, batch.gt_label.bool().flatten()))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the images of this epoch in each way."""
        if trainer.current_epoch < getattr(pl_module, "first_scoring_epoch", 0):
            return
        validated = LabeledBatch(*map(torch.cat, zip(*self._validated, strict=True)))
        if self._control is None:
            self._control = self._draw_control(trainer, pl_module, validated.is_sick)
        size = trainer.datamodule.eval_batch_size  # type: ignore[attr-defined]  # of Lightning's trainer
        for images, of in ((validated, VALIDATION), (self._control, CONTROL)):
            for way in self.ways:
                estimate = self._measure(pl_module, images, way, size)
                self.rows.append({"epoch": trainer.current_epoch, **way._asdict(), "images": of, **estimate})
        self._validated = []

    def _measure(
        self, module: LightningModule, labeled: LabeledBatch, way: ScoringWay, size: int
    ) -> dict[str, float | int]:
        """Return the AUROC of images in one way of scoring, with its interval and the numbers of images."""
        network: Any = module.model
        scores = torch.empty(len(labeled.images))
        for batch in batches_of(labeled.is_sick.cpu(), way, size, self.seed):
            images = labeled.images[batch.to(labeled.images.device)]
            if way.scoring == BATCH_STATISTICS:
                with batch_statistics(network):
                    scored = network(images)
            else:
                scored = network(images)
            scores[batch] = scored.pred_score.detach().float().flatten().cpu()
        is_sick: np.ndarray = labeled.is_sick.cpu().numpy()
        n_sick = int(is_sick.sum())
        return {
            **estimate_auroc(is_sick, scores.numpy().astype(float))._asdict(),
            "n_normal": len(is_sick) - n_sick,
            "n_sick": n_sick,
        }

    def _draw_control(self, trainer: Trainer, module: LightningModule, is_sick: torch.Tensor) -> LabeledBatch:
        """Draw healthy training images, and give them the labels of the validation images."""
        data = trainer.datamodule.train_data  # type: ignore[attr-defined]  # of Lightning's trainer
        if len(data) < len(is_sick):
            raise DatasetError(
                f"{len(data)} training images and {len(is_sick)} validation images",
                "at least as many training images, from which the control of the ways of scoring is drawn",
                "take fewer validation images, or leave out `scoring` in the configuration of the benchmark",
            )
        drawn = torch.randperm(len(data), generator=torch.Generator().manual_seed(self.seed))[: len(is_sick)]
        images = data.collate_fn([data[int(index)] for index in drawn]).image.to(module.device)
        transform = getattr(getattr(module, "pre_processor", None), "transform", None)
        return LabeledBatch(images if transform is None else transform(images), is_sick)
