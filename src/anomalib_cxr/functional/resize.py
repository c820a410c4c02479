"""Antialiased resizing that is the same in training and in an exported graph."""

from __future__ import annotations

import torch


def _triangle_weights(source: int, target: int, like: torch.Tensor) -> torch.Tensor:
    """Return the weight of each source pixel in each target pixel along one axis, `(source, target)`."""

    def centers(count: int) -> torch.Tensor:
        return torch.arange(count, device=like.device, dtype=like.dtype) + 0.5

    scale = source * torch.full((1,), 1 / target, device=like.device, dtype=like.dtype)
    offset = centers(source).unsqueeze(1) - centers(target) * scale
    weights = (1 - offset.abs() / scale.clamp(min=1)).clamp(min=0)
    return weights / weights.sum(dim=0, keepdim=True)


def antialiased_resize(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize with the antialiased bilinear filter of torchvision, written as two matrix products.

    OpenVINO ignores the antialiasing of ONNX's `Resize`, and anomalib switches it off on export: the exported model
    would receive other pixels than the trained one. Matrix products are the same in all runtimes, and their weights
    are computed inside the graph for inputs of any size.

    Args:
        image: Images of any value range, `(B, C, H, W)`.
        size: Height and width of the result.

    Returns:
        Resized images, `(B, C, *size)`.

    Example:
        >>> antialiased_resize(torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]), (1, 1))
        tensor([[[[1.5000]]]])
    """
    rows = _triangle_weights(image.shape[-2], size[0], image)
    columns = _triangle_weights(image.shape[-1], size[1], image)
    return rows.transpose(-2, -1) @ (image @ columns)
