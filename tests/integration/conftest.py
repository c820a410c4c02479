"""The commands as a user types them, and one tiny training whose results the tests share."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

import pandas as pd
import pytest
import torch
from anomalib.cli import AnomalibCLI

from anomalib_cxr.data.phantom.dicom import write_phantom_dicom
from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.deploy.telemetry import SWITCHES

REPOSITORY = Path(__file__).resolve().parents[2]
COMMANDS = Path(sys.executable).parent
# Several processes on few cores only lose by threads; a wide terminal breaks no message into lines.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "COLUMNS": "1000", "PYTHONUNBUFFERED": "1"}
TINY_MODEL = ["--model.init_args.image_size", "32", "--model.init_args.network.n_features", "4"]


# Runs in each Python of a command, and notes where it connects to beside this machine.
WATCH = """
import os, socket, sys
record, own = open(os.environ["NETWORK_RECORD"], "a", buffering=1), {"", "localhost", "::1", socket.gethostname()}
def watch(event, values):
    if event in ("socket.connect", "socket.sendto"):
        host = values[1][0] if isinstance(values[1], tuple) else ""
    elif event == "socket.getaddrinfo":
        host = values[0] or ""
    elif event == "urllib.Request":
        host = values[0].split("/")[2].split(":")[0] if "://" in values[0] else ""
    else:
        return
    host = host.decode() if isinstance(host, bytes) else str(host)
    if host not in own and not host.startswith(("127.", "0.0.0.0")):
        print(event, host, sys.argv, file=record)
sys.addaudithook(watch)
"""
SWITCHED_ON = {"CI", "JENKINS_URL", *SWITCHES}  # variables that would keep libraries from sending
NETWORK = Path(mkdtemp(prefix="anomalib-cxr-network-"))


def watched():
    """Return an environment in which nothing is switched off, with an empty home folder."""
    (NETWORK / "sitecustomize.py").write_text(WATCH)
    (NETWORK / "home").mkdir(exist_ok=True)
    known = {name: value for name, value in os.environ.items() if name not in SWITCHED_ON}
    path = os.pathsep.join(filter(None, [str(NETWORK), os.environ.get("PYTHONPATH")]))
    home, record = str(NETWORK / "home"), str(NETWORK / "connections.txt")
    return known | {"PYTHONPATH": path, "HOME": home, "NETWORK_RECORD": record}


@pytest.fixture(autouse=True)
def nothing_leaves_the_machine():
    """Let a test fail whose commands, or those of the results that it shares, connect to another machine."""
    yield
    record = NETWORK / "connections.txt"
    said = record.read_text() if record.exists() else ""
    record.unlink(missing_ok=True)
    assert said == ""


BY_COMMAND = {"command", "in_process", "interrupted", "serving"}


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what `-m "not slow"` does not want
def pytest_collection_modifyitems(items):
    """Mark the tests that run commands, or share the results of one: each takes seconds to start alone."""
    for item in items:
        if BY_COMMAND & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


class Answer(NamedTuple):
    code: int
    output: str


class Results(NamedTuple):
    """What a training left in the folder that it was started in."""

    started_in: Path

    @property
    def folder(self) -> Path:
        (latest,) = self.started_in.glob("results/*/*/latest")
        return latest.resolve()

    @property
    def checkpoint(self) -> Path:
        return self.folder / "weights" / "lightning" / "model.ckpt"

    @property
    def model(self) -> list[str]:
        """The words by which other commands find the trained model."""
        return ["--config", str(self.folder / "report" / "model.yaml"), "--ckpt_path", str(self.checkpoint)]

    def table(self, name):
        return pd.read_csv(self.folder / "report" / name)

    def state(self):
        return torch.load(self.checkpoint, weights_only=False, map_location="cpu")


def begin(folder, name, *words, stdout=subprocess.PIPE):
    """Start a command as a process group of its own, which can be ended as a whole.

    It hears Ctrl-C, which a shell has jobs in the background ignore, such as this test run may be. That is set here and
    not between fork and exec: a function there would have Python fork for good instead of by vfork, and what libraries
    of this process have registered for a fork may no longer be there.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(  # noqa: S603  # this project's own commands
        [COMMANDS / name, *map(str, words)],
        cwd=folder,
        env={**watched(), **ENVIRONMENT},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(process, by=signal.SIGKILL):
    with suppress(ProcessLookupError):  # it may have ended by itself
        os.killpg(process.pid, by)


@pytest.fixture(scope="session")
def command():
    """Run a command of this installation in a folder, to its end."""

    def run(folder, name, *words, timeout=300):
        process = begin(folder, name, *words)
        try:
            output, _ = process.communicate(timeout=timeout)
        finally:
            end(process)
        return Answer(process.returncode, output)

    return run


@pytest.fixture(scope="session")
def serving():
    """Lend the address that a command prints and listens at until the test is done with it."""

    @contextmanager
    def run(folder, name, *words, timeout=120):
        process = begin(folder, name, *words)
        try:
            yield read_address(process, time.monotonic() + timeout)
        finally:
            end(process)

    return run


def read_address(process, deadline):
    said = ""
    while process.poll() is None and time.monotonic() < deadline:
        said += process.stdout.readline()
        if found := re.search(r"http://127\.0\.0\.1:\d+", said):
            return found[0]
    return pytest.fail(f"printed no address:\n{said}")


@pytest.fixture(scope="session")
def interrupted():
    """Start a command, and end it by a signal as soon as something can be seen on the disk."""

    def run(folder, name, *words, seen, by=signal.SIGKILL, timeout=180):
        process = begin(folder, name, *words)
        try:
            deadline = time.monotonic() + timeout
            while not seen():
                if process.poll() is not None or time.monotonic() > deadline:
                    end(process)
                    pytest.fail(f"ended too early or never got that far:\n{process.communicate()[0]}")
                time.sleep(0.02)
            end(process, by)
            output, _ = process.communicate(timeout=60)
        finally:
            end(process)
        return Answer(process.returncode, output)

    return run


@contextmanager
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def in_process():
    """Run `anomalib` in this process, without the seconds that its start takes."""

    def run(folder, *words):
        with pytest.MonkeyPatch.context() as patched, one_thread():
            for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
                patched.setenv(name, "0")  # what a training leaves there ends with it
                patched.delenv(name)
            patched.chdir(folder)
            return AnomalibCLI([str(word) for word in words])

    return run


@pytest.fixture(scope="session")
def tiny(side_by_side_root):
    """A training of seconds: `configs/roi_sure.yaml` on phantoms in the layout of the official archives."""
    return [
        *("train", "--config", str(REPOSITORY / "configs" / "roi_sure.yaml"), *TINY_MODEL),
        *("--data.init_args.root", str(side_by_side_root), "--data.init_args.num_workers", "0"),
        *("--data.init_args.train_batch_size", "4", "--trainer.accelerator", "cpu"),
        *("--data.init_args.sixteen_bit_white", "null"),  # it predicts files of all 16 bits
        # Steps long enough that the scores of the images differ by more than rounding.
        *("--model.init_args.optimizer.lr", "0.01"),
    ]


@pytest.fixture(scope="session")
def trained(tmp_path_factory, command, tiny):
    """Two epochs, straight."""
    folder = tmp_path_factory.mktemp("trained")
    code, output = command(folder, "anomalib", *tiny, "--trainer.max_epochs", 2)
    assert code == 0, output
    return Results(folder)


@pytest.fixture(scope="session")
def telling_images(trained, side_by_side_root):
    """Tested images with a probability that is not cut off at 0 or 1, where wrong scores look like right ones."""
    scores = trained.table("scores.csv")
    names = [Path(image).name for image in scores[scores.probability.between(0.05, 0.95)].image]
    assert names, scores
    return [path for path in sorted(side_by_side_root.rglob("CXR_png/*.png")) if path.name in names]


@pytest.fixture(scope="session")
def detection_data(tmp_path_factory):
    """Settings of data that are split by a table: phantoms of two hospitals, as many as LungAtlas needs to train."""
    root = tmp_path_factory.mktemp("detection")
    for prefix in ("CHNCXR", "MCUCXR"):
        write_phantoms(root / prefix, prefix=prefix, n_normal=45, n_sick=6, size=32)
    names = sorted(path.name for path in root.rglob("CXR_png/*.png"))
    splits = (["val"] * 3 + ["test"] * 3 + ["train"] * 39 + ["val"] * 2 + ["test"] * 4) * 2
    pd.DataFrame({"image": names, "0": splits}).to_csv(root / "splits.csv", index=False)
    return {"root": str(root), "split_table": str(root / "splits.csv")}


@pytest.fixture(scope="session")
def own_root(tmp_path_factory):
    """Healthy and sick X-rays of a hospital's own: as PNG in `png/`, and the same as DICOM in `dicom/`."""
    root, drawn = tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("drawn")
    for label, counts in {"healthy": (88, 0), "sick": (0, 40)}.items():
        phantoms = write_phantoms(drawn / label, n_normal=counts[0], n_sick=counts[1], size=64, seed=sum(counts))
        shutil.copytree(phantoms / "CXR_png", root / "png" / label)
        shutil.copytree(write_phantom_dicom(phantoms), root / "dicom" / label, ignore=lambda *_: {"DICOMDIR"})
    return root


@pytest.fixture
def results(tmp_path):
    """What the commands of this test leave in its own folder."""
    return Results(tmp_path)
