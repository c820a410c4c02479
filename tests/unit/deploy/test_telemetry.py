"""No usage statistics leave the machine: tried in a Python without pytest, to which NNCF sends none."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Into a file, since events are sent by processes of their own, which the Python waits for at its end.
WATCH = """
import sys
record = open("network.txt", "a", buffering=1)
def watch(event, _):
    if event in ("socket.getaddrinfo", "socket.connect", "urllib.Request"):
        print(event, file=record)
sys.addaudithook(watch)
"""
CONVERT_AND_QUANTIZE = """
import numpy as np, onnx, openvino
from onnx import TensorProto, helper
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 8, 8]) for name in "xy"]
filters = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 3, 3], [1.0] * 9)
node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
onnx.save(helper.make_model(helper.make_graph([node], "graph", ends[:1], ends[1:], [filters])), "graph.onnx")
import nncf
nncf.quantize(openvino.convert_model("graph.onnx"), nncf.Dataset([np.ones((1, 1, 8, 8), np.float32)]), subset_size=1)
"""


def network_calls(folder, code):
    """Return the audit events of the network that some code causes, for a user who has not opted out."""
    environment = {name: value for name, value in os.environ.items() if name not in {"CI", "TF_BUILD", "JENKINS_URL"}}
    finished = subprocess.run(  # noqa: S603
        [sys.executable, "-c", WATCH + code],
        cwd=folder, env=environment | {"HOME": str(folder)}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    return (folder / "network.txt").read_text().split()


@pytest.mark.slow
def test_without_this_package_they_are_sent(tmp_path):
    """The watch sees them."""
    assert "urllib.Request" in network_calls(tmp_path, CONVERT_AND_QUANTIZE)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["", "import openvino_telemetry\n"])
def test_none_is_sent(tmp_path, first):
    assert network_calls(tmp_path, f"{first}import anomalib_cxr\n{CONVERT_AND_QUANTIZE}") == []


def test_ray_is_told(monkeypatch):
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    from anomalib_cxr.deploy.telemetry import disable_telemetry  # noqa: PLC0415

    disable_telemetry()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
