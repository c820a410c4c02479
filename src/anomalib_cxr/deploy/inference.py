"""Inference of an OpenVINO graph by several threads at the same time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from threading import Lock, local

import numpy as np
import openvino

MAX_BATCH = 8
"""Number of images in a full batch."""
MAX_THREADS = 4
"""Number of threads that run a graph at the same time, at most."""


def thread_count() -> int:
    """Return the number of threads that are to run a graph at the same time: one for each core, up to a bound.

    `OMP_NUM_THREADS` lowers it. Ray sets that to the cores of a worker, whose neighbors use the others.
    """
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return min(MAX_THREADS, os.cpu_count() or 1, int(allowed) if allowed.isdecimal() and int(allowed) else MAX_THREADS)


class _Requests(local):
    """OpenVINO's requests of a thread, by the number of images in a batch."""

    def __init__(self) -> None:
        self.by_batch: dict[int, openvino.InferRequest] = {}


class ThreadedNetwork:
    """OpenVINO graph that threads share, computed in float32 on every processor.

    A graph for images of one size is compiled for single images and, when the first full batch comes, for batches of
    :data:`MAX_BATCH`; each thread runs on a core of its own. An open batch dimension, or all cores for one batch, take
    longer. A graph for images of any size is compiled for any number of them, and runs on all cores.

    Args:
        network: Graph with one input, `(B, C, H, W)`, of any B; not changed.
        device: OpenVINO device.
        outputs: Numbers of the outputs to return.

    Raises:
        RuntimeError: If the device cannot load it.
    """

    def __init__(self, network: openvino.Model, device: str, outputs: Sequence[int]) -> None:
        self._network, self._device, self._outputs = network, device, outputs
        self._sides = list(network.input().get_partial_shape())[1:]
        self.has_fixed_size = all(side.is_static for side in self._sides)
        self._compiled = {1: self._compile(1)}
        self._lock, self._requests = Lock(), _Requests()

    def _compile(self, batch: int) -> openvino.CompiledModel:
        # Without the hint of float32, processors with bfloat16 would compute other values.
        config = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        network = self._network
        if self.has_fixed_size:
            network = network.clone()
            network.reshape([batch, *self._sides])
            config |= {"PERFORMANCE_HINT": "THROUGHPUT", "PERFORMANCE_HINT_NUM_REQUESTS": str(thread_count())}
        return openvino.Core().compile_model(network, self._device, config)

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Compute the outputs for images.

        Args:
            images: Images, `(B, C, H, W)`, float32, B at least 1.

        Returns:
            Each output, `(B, ...)`.
        """
        if not self.has_fixed_size:
            return self._infer(images, 1)
        batch = MAX_BATCH if len(images) == MAX_BATCH else 1
        parts = [self._infer(images[start : start + batch], batch) for start in range(0, len(images), batch)]
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    def _infer(self, images: np.ndarray, batch: int) -> list[np.ndarray]:
        requests = self._requests.by_batch
        if batch not in requests:
            with self._lock:
                if batch not in self._compiled:
                    self._compiled[batch] = self._compile(batch)
            requests[batch] = self._compiled[batch].create_infer_request()
        found = requests[batch].infer([images])
        return [np.asarray(found[output]) for output in self._outputs]
