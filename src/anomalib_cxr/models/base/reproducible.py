"""Random numbers of trainings that can be repeated and resumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Draw random numbers from a seed, and leave the state of those outside as it was.

    Args:
        seed: The seed; None draws from the state outside.

    Yields:
        Nothing.

    Example:
        >>> with seeded(1):
        ...     first = torch.rand(2)
        >>> with seeded(1):
        ...     bool(torch.equal(first, torch.rand(2)))
        True
    """
    if seed is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def seed_or_state(seed: int | None) -> int:
    """Return a seed, or one derived from the state of torch's random numbers where there is none.

    Args:
        seed: The seed, if there is one.

    Returns:
        A seed.

    Example:
        >>> seed_or_state(3)
        3
    """
    return torch.initial_seed() % 2**31 if seed is None else seed


def random_states(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the states of the random numbers of the CPU and of a GPU.

    Args:
        device: Device of the training.

    Returns:
        States by the kind of device.
    """
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random_states(states: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Set the random numbers to states of :func:`random_states`.

    Args:
        states: States by the kind of device; empty for none.
        device: Device of the training.
    """
    if "cpu" in states:
        torch.set_rng_state(states["cpu"].cpu())
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)
