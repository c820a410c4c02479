"""Size, latency, throughput and scores of what `anomalib export` writes for OpenVINO, beside PyTorch.

    python benchmarks/edge.py --runs '{roi_sure: RUN, lung_atlas: RUN}' --data DATA.yaml --output results/edge

RUN is the folder of a training with its `report/model.yaml`; DATA.yaml a configuration of its data module, with the
root as it is on this machine. Exports each model by the command that a user types, in float32, FP16 and INT8,
calibrated on validation images; scores the test images with each; and measures in turn, some repetitions long, a plain
matrix product, PyTorch (eager, all cores, the same batch) and each format. A format is loaded in three ways: as it is,
for images of any size; for images of one size only; and as `anomalib-cxr screen` loads it, for images of any size that
are reduced before the graph, a batch on each core. Writes `edge.csv` and `run.json`.

Models are loaded with the hint for float32, except for FP16, whose convolutions may compute in bfloat16; `screen`
always computes in float32.
Score differences are those of `pred_score` before clamping, in units of the range of validation scores.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openvino
import pandas as pd
import torch
import yaml
from anomalib.data import AnomalibDataModule
from anomalib.models import AnomalibModule
from jsonargparse import ArgumentParser, auto_cli
from sklearn.metrics import roc_auc_score
from torch.utils.flop_counter import FlopCounterMode

from anomalib_cxr.deploy.inference import MAX_BATCH, thread_count
from anomalib_cxr.deploy.runtime import ExportedModel
from anomalib_cxr.utils.provenance import code_record, write_record

FORMATS: dict[str, list[str]] = {
    "float32": [],
    "fp16": ["--compression_type", "FP16"],
    "int8_ptq": ["--compression_type", "INT8_PTQ"],
}
SIDE = 2048
"""Of the matrices of the plain product."""
TORCH = "pytorch"
SCREEN = "screen"
"""Name of the way in which `anomalib-cxr screen` loads a graph."""


class Images(NamedTuple):
    """The test set."""

    gray: np.ndarray
    """Gray values in [0, 1], `(N, 3, H, W)`."""
    sick: np.ndarray
    """Labels, `(N,)`, bool."""


def read_images(data: Path) -> Images:
    """Read the test images of a data module's configuration."""
    parser = ArgumentParser()
    parser.add_argument("--data", type=AnomalibDataModule)
    settings = {"data": yaml.safe_load(data.read_text())["data"]}
    datamodule = parser.instantiate_classes(parser.parse_object(settings)).data
    datamodule.prepare_data()
    datamodule.setup("test")
    dataset = datamodule.test_dataloader().dataset
    items = [dataset[number] for number in range(len(dataset))]
    values = np.stack([item.image.numpy() for item in items])
    return Images(np.ascontiguousarray(values), np.array([bool(item.gt_label) for item in items]))


def read_model(run: Path) -> AnomalibModule:
    """Load the model of a training, as PyTorch scores with it."""
    parser = ArgumentParser()
    parser.add_subclass_arguments(AnomalibModule, "model", fail_untyped=False)
    settings = yaml.safe_load((run / "report/model.yaml").read_text())
    model = parser.instantiate_classes(parser.parse_object({"model": settings["model"]})).model
    # A model of anomalib's takes its size from the pre-processor, which a checkpoint does not keep.
    pre_processor = model.pre_processor
    return type(model).load_from_checkpoint(checkpoint_of(run), map_location="cpu", pre_processor=pre_processor).eval()


def checkpoint_of(run: Path) -> Path:
    """Return the checkpoint of a training."""
    return run / "weights/lightning/model.ckpt"


def export(run: Path, data: Path, name: str, options: list[str], folder: Path) -> tuple[Path, float]:
    """Export by the command; return the graph and the seconds that it took."""
    root = folder / name
    graph = root / "weights/openvino/model.xml"
    command = [str(Path(sys.executable).with_name("anomalib")), "export", "--config", str(run / "report/model.yaml"),
               "--config", str(data), "--ckpt_path", str(checkpoint_of(run)), "--export_type", "openvino",
               "--export_root", str(root), *options]  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # fixed options
    if done.returncode:
        sys.exit(f"{' '.join(command)}: ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return graph, time.perf_counter() - began


def before_clamp(network: openvino.Model) -> openvino.Output:
    """Return the score before clamping."""
    waiting = [network.output("pred_score").get_node()]
    while waiting:
        node = waiting.pop(0)
        if node.get_type_name() == "Clamp":
            return node.input_value(0)
        waiting += [side.get_node() for side in node.input_values()]
    sys.exit("pred_score is not clamped: the model has no normalization")


def precision(kind: str) -> dict[str, str]:
    """Return the setting of OpenVINO for a format."""
    return {} if kind == "fp16" else {"INFERENCE_PRECISION_HINT": "f32"}


def scores_of(graph: Path, images: Images, kind: str) -> np.ndarray:
    """Score the test images one by one."""
    network = openvino.Core().read_model(graph)
    network.add_outputs([before_clamp(network)])
    model = openvino.Core().compile_model(network, "CPU", precision(kind))
    return np.array([float(model(image[None])[len(network.outputs) - 1].squeeze()) for image in images.gray])


def integer_share(graph: Path, batch: np.ndarray) -> float:
    """Return the share of the time that goes into operations on integers."""
    network = openvino.Core().read_model(graph)
    network.reshape(list(batch.shape))
    request = openvino.Core().compile_model(network, "CPU", {"PERF_COUNT": "YES"}).create_infer_request()
    for _ in range(3):
        request.infer(batch)
    times = [(node.real_time.total_seconds(), node.exec_type.lower()) for node in request.get_profiling_info()]
    return sum(seconds for seconds, kind in times if kind.endswith("i8")) / sum(seconds for seconds, _ in times)


class Timed(NamedTuple):
    """A way to score, ready to be timed."""

    one: Callable[[], Any]
    """Scores one image."""
    many: Callable[[], int]
    """Scores several batches, and returns how many images they were."""


def by_torch(model: AnomalibModule, batch: np.ndarray, requests: int) -> Timed:
    """Prepare PyTorch, eager."""
    images = torch.from_numpy(batch)

    def score(images: torch.Tensor) -> None:
        with torch.inference_mode():
            model(images)

    def many() -> int:
        for _ in range(requests):
            score(images)
        return requests * len(images)

    return Timed(lambda: score(images[:1]), many)


def by_openvino(graph: Path, batch: np.ndarray, requests: int, kind: str, *, one_size: bool) -> Timed:
    """Prepare OpenVINO: one image by the hint of latency, batches by that of throughput."""

    def load(hint: str, shape: tuple[int, ...]) -> openvino.CompiledModel:
        network = openvino.Core().read_model(graph)
        if one_size:
            network.reshape(list(shape))
        return openvino.Core().compile_model(network, "CPU", {"PERFORMANCE_HINT": hint, **precision(kind)})

    single = load("LATENCY", (1, *batch.shape[1:])).create_infer_request()
    queue = openvino.AsyncInferQueue(load("THROUGHPUT", batch.shape))

    def many() -> int:
        for _ in range(requests):
            queue.start_async({0: batch})
        queue.wait_all()
        return requests * len(batch)

    return Timed(lambda: single.infer(batch[:1]), many)


def by_screening(graph: Path, batch: np.ndarray, requests: int) -> Timed:
    """Prepare the model as `anomalib-cxr screen` runs it: full batches in a thread for each core."""
    model, gray = ExportedModel(graph), batch[:, :1]
    full = [gray[:MAX_BATCH]] * (requests * len(batch) // MAX_BATCH)
    pool = ThreadPoolExecutor(thread_count())

    def many() -> int:
        return sum(len(scores.score) for scores in pool.map(model, full))

    return Timed(lambda: model(gray[:1]), many)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long work takes, and what it returns."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def plain_products() -> dict[str, float]:
    """Return the rates of plain matrix products, in thousand millions of operations a second."""
    left, whole = torch.rand(SIDE, SIDE), torch.randint(-127, 128, (SIDE, SIDE), dtype=torch.int8)
    works = {"float32": lambda: left @ left, "int8": lambda: torch._int_mm(whole, whole.T.contiguous().T)}  # noqa: SLF001
    return {name: 2 * SIDE**3 / seconds(work)[0] / 1e9 for name, work in works.items()}


def operations_of(model: AnomalibModule, image: np.ndarray) -> float:
    """Return the operations of one image in matrix products and convolutions, a multiplication and a sum each two."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.from_numpy(image[None]))
    return float(counter.get_total_flops())


def measure(ways: dict[str, Timed], repetitions: int, ones: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Time all ways in turn; return a row for each repetition of each, and the plain products of each repetition."""
    rows, plain = [], []
    for way in ways.values():
        for _ in range(3):  # warm
            way.one()
        way.many()
    for repetition in range(repetitions):
        plain.append(plain_products())
        for name, way in ways.items():
            latency = float(np.median([seconds(way.one)[0] for _ in range(ones)]))
            spent, count = seconds(way.many)
            rows.append({"way": name, "repetition": repetition, "latency_ms": 1e3 * latency, "rate": count / spent})
    return pd.DataFrame(rows), pd.DataFrame(plain)


def summary(timed: pd.DataFrame, name: str) -> dict[str, float]:
    """Return medians, and the smallest and largest ratio to PyTorch in the same repetition."""
    own, baseline = (timed[timed.way == way].set_index("repetition") for way in (name, TORCH))
    faster, quicker = own.rate / baseline.rate, baseline.latency_ms / own.latency_ms
    return {
        "latency_ms": own.latency_ms.median(), "latency_gain": quicker.median(), "latency_gain_least": quicker.min(),
        "latency_gain_most": quicker.max(), "images_a_second": own.rate.median(), "gain": faster.median(),
        "gain_least": faster.min(), "gain_most": faster.max(),
    }  # fmt: skip


def measure_run(
    name: str, run: Path, data: Path, images: Images, output: Path, batch: int, requests: int, repetitions: int
) -> list[dict[str, Any]]:
    """Export a model in all formats, and measure them in one go."""
    model, batch_values = read_model(run), images.gray[:batch]
    graphs = {kind: export(run, data, kind, options, output / name) for kind, options in FORMATS.items()}
    ways = {TORCH: by_torch(model, batch_values, requests)}
    for kind, (graph, _) in graphs.items():
        for size, one_size in (("any", False), ("one", True)):
            ways[f"{kind}/{size}"] = by_openvino(graph, batch_values, requests, kind, one_size=one_size)
        ways[f"{kind}/{SCREEN}"] = by_screening(graph, batch_values, requests)
    timed, plain = measure(ways, repetitions, ones=10)
    timed.to_csv(output / f"{name}_repetitions.csv", index=False, float_format="%.5g")
    scores = {kind: scores_of(graph, images, kind) for kind, (graph, _) in graphs.items()}
    operations = operations_of(model, batch_values[0])
    rows: list[dict[str, Any]] = [{"system": name, "format": TORCH, "size_mb": None, **summary(timed, TORCH)}]
    for kind, (graph, took) in graphs.items():
        difference = np.abs(scores[kind] - scores["float32"])
        of_format = {
            "system": name,
            "format": kind,
            "size_mb": sum(file.stat().st_size for file in (graph, graph.with_suffix(".bin"))) / 1e6,
            "auroc": roc_auc_score(images.sick, scores[kind]),
            "mean_difference": difference.mean(),
            "largest_difference": difference.max(),
            "integer_share": integer_share(graph, batch_values),
            "export_seconds": took,
        }
        rows += [
            {**of_format, "image_size": size, **summary(timed, f"{kind}/{size}")} for size in ("any", "one", SCREEN)
        ]  # fmt: skip
    for row in rows:
        row["million_operations"] = operations / 1e6
        row["share_of_float32_product"] = operations * row["images_a_second"] / 1e9 / plain["float32"].median()
        row["int8_product_to_float32"] = (plain["int8"] / plain["float32"]).median()
    return rows


def main(
    runs: dict[str, Path],
    data: Path,
    output: Path = Path("results/edge"),
    batch: int = 16,
    requests: int = 8,
    repetitions: int = 7,
) -> None:
    """Measure, print and write.

    Args:
        runs: Folders of trainings, by name.
        data: Configuration of their data.
        output: Folder of exports and results.
        batch: Images in a batch.
        requests: Batches in a measurement of throughput.
        repetitions: Of each measurement.
    """
    torch.set_num_threads(os.cpu_count() or 1)
    output.mkdir(parents=True, exist_ok=True)
    images = read_images(data)
    rows: list[dict[str, Any]] = []
    for name, run in runs.items():
        rows += measure_run(name, run, data, images, output, batch, requests, repetitions)
        table = pd.DataFrame(rows)
        table.to_csv(output / "edge.csv", index=False, float_format="%.4g")
        print(table[table.system == name].to_string(index=False, float_format="{:.4g}".format), flush=True)  # noqa: T201
    settings = {"batch": batch, "requests": requests, "repetitions": repetitions, "images": len(images.sick)}
    write_record({**code_record(), "cores": os.cpu_count(), "settings": settings, "rows": rows}, output / "run.json")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
