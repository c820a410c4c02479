"""Files of an OpenVINO model, read once: what is loaded is what was hashed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import openvino


class ModelBytes(NamedTuple):
    """Contents of the two files of an OpenVINO model."""

    graph: bytes
    """Of the `.xml` file."""
    weights: bytes
    """Of the `.bin` file."""

    @classmethod
    def read(cls, graph: Path) -> ModelBytes:
        """Read both files.

        Args:
            graph: The `.xml` file; the weights lie beside it.

        Returns:
            Their contents. An OSError passes through.
        """
        return cls(graph.read_bytes(), graph.with_suffix(".bin").read_bytes())

    @property
    def sha256(self) -> str:
        """SHA-256 of both, one after the other, as of :func:`anomalib_cxr.deploy.runtime.hash_of_model`."""
        digest = hashlib.sha256(self.graph)
        digest.update(self.weights)
        return digest.hexdigest()

    def load(self) -> openvino.Model:
        """Return the model of these bytes. OpenVINO's RuntimeError passes through where they are none.

        Example:
            >>> ModelBytes(b"no graph", b"").load()
            Traceback (most recent call last):
            ...
            RuntimeError: ...
        """
        network: openvino.Model = openvino.Core().read_model(self.graph, self.weights)
        return network
