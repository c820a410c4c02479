"""Images that a model was trained on, remembered by their content so that a calibration recognizes them."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Trainer

from anomalib_cxr.data.reading.file_hashes import KnownImages, hash_contents


def remember_training_images(trainer: Trainer, known: KnownImages) -> KnownImages:
    """Add the training images of a trainer to those that a model knows.

    Args:
        trainer: Trainer with a data module whose `train_data` has a samples table with the column `image_path`, as all
            of anomalib's have. Of data loaders alone, nothing is known.
        known: Images of the training that is resumed; empty for a new one.

    Returns:
        The images by the content of their files.
    """
    data = getattr(getattr(trainer, "datamodule", None), "train_data", None)
    samples = getattr(data, "samples", None)
    if samples is None or not trainer.is_global_zero:  # the first process alone writes checkpoints
        return known
    return known | KnownImages.of(hash_contents([Path(path) for path in samples.image_path]))
