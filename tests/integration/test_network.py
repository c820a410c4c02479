"""Nothing leaves the machine: the other tests run each verb under the watch that these prove to work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .conftest import NETWORK

SEND = "import socket; socket.getaddrinfo('telemetry.invalid', 443)"


def test_the_watch_sees_a_command_and_the_processes_that_it_starts(command, tmp_path):
    python = Path(sys.executable).name
    again = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SEND!r}])"
    for code in (SEND, again):
        command(tmp_path, python, "-c", code)
    record = NETWORK / "connections.txt"
    said = record.read_text().splitlines()
    record.unlink()
    assert [line.split()[:2] for line in said] == [["socket.getaddrinfo", "telemetry.invalid"]] * 2


@pytest.mark.parametrize("words", [["--version"], ["init", "project"], ["screen", "--help"]])
def test_verbs_that_no_other_test_runs(command, tmp_path, words):
    code, output = command(tmp_path, "anomalib-cxr", *words)
    assert code == 0, output
