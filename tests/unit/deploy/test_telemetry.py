"""No usage statistics leave the machine: tried in a Python without pytest, to which NNCF sends none."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from anomalib_cxr.deploy.telemetry import SWITCHES, disable_telemetry

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


def network_calls(folder, code, *words):
    """Return the audit events of the network that some code causes, for a user who has not opted out."""
    told = {"CI", "JENKINS_URL", *SWITCHES}
    environment = {name: value for name, value in os.environ.items() if name not in told}
    finished = subprocess.run(  # noqa: S603
        [sys.executable, "-c", WATCH + code, *words],
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


BY_ANOTHER_PROCESS = """
import subprocess, sys, anomalib_cxr
code = "import openvino_telemetry, openvino.tools.ovc"
subprocess.run([sys.executable, "-c", sys.argv[-1] + code], check=True)
"""


@pytest.mark.slow
def test_none_is_sent_by_a_process_that_another_one_starts(tmp_path):
    """The other process knows nothing of this package: the environment decides."""
    assert network_calls(tmp_path, BY_ANOTHER_PROCESS, WATCH) == []


@pytest.mark.slow
def test_none_is_sent_by_a_program_that_imports_torch_first(tmp_path):
    """As by the command `anomalib`, which imports this package last."""
    assert network_calls(tmp_path, "import torch\n" + CONVERT_AND_QUANTIZE) == []


def test_each_switch_is_set_unless_the_user_did(monkeypatch):
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    disable_telemetry()
    assert {name: os.environ[name] for name in SWITCHES} == SWITCHES | {"RAY_USAGE_STATS_ENABLED": "1"}
