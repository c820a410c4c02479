"""White of 16-bit images: the same in training and afterwards."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

from anomalib_cxr.errors import SettingError


def same_white(trainer: Trainer, learned: int | None, *, learned_before: bool) -> int | None:
    """Return the white of 16-bit images that the trainer's data have, or refuse another one than the model's.

    Args:
        trainer: Trainer with a data module or with data loaders.
        learned: White that the model remembers.
        learned_before: Whether the model has been trained; if not, it takes the white of the data.

    Returns:
        The white; that of the model where the data state none, as data of other packages do.

    Raises:
        SettingError: The data have another white than the model was trained with.
    """
    for place in _places(trainer):
        if hasattr(place, "sixteen_bit_white"):
            found: int | None = place.sixteen_bit_white
            if learned_before and found != learned:
                raise SettingError(
                    f"data with sixteen_bit_white = {found}",
                    f"{learned}, as the model was trained",
                    "set data.init_args.sixteen_bit_white to the value of the training (null: leave it out)",
                )
            return found
    return learned


def _places(trainer: Trainer) -> list[Any]:
    """Return what may state the white: the data module, and the data sets of a prediction."""
    loaders = trainer.predict_dataloaders or []
    loaders = loaders if isinstance(loaders, list) else [loaders]
    return [getattr(trainer, "datamodule", None), *(getattr(loader, "dataset", None) for loader in loaders)]
