"""The results folder that anomalib makes for a training before it is known whether the training can start."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from lightning.pytorch import Trainer

_VERSION = re.compile(r"v(\d+)")
_CONFIG = "config.yaml"  # which Lightning's command saves before the data are read
_LATEST = "latest"


def remove_unused_results(trainer: Trainer) -> None:
    """Remove the results folder of a training that was refused before its first step, and lead `latest` back.

    A folder with anything but the saved configuration is left as it is.

    Args:
        trainer: The trainer, after the error.
    """
    folder = Path(trainer.default_root_dir)
    is_new = trainer.state.fn == "fit" and trainer.global_step == 0 and _VERSION.fullmatch(folder.name)
    if not is_new or not trainer.is_global_zero or not folder.is_dir():
        return
    if {path.name for path in folder.iterdir()} - {_CONFIG}:
        return
    (folder / _CONFIG).unlink(missing_ok=True)
    folder.rmdir()
    _lead_back(folder.parent / _LATEST)
    with suppress(OSError):  # of the first one that is not empty
        for parent in folder.parents:
            parent.rmdir()
            if parent.name == getattr(trainer.lightning_module, "name", parent.name):
                return


def _lead_back(latest: Path) -> None:
    """Let a link lead to the highest version beside it, where it led before; remove it if there is none."""
    if not latest.is_symlink():
        return
    latest.unlink()
    versions = [found for path in latest.parent.iterdir() if (found := _VERSION.fullmatch(path.name))]
    if versions:
        highest = max(versions, key=lambda version: int(version[1]))
        latest.symlink_to(highest[0], target_is_directory=True)
