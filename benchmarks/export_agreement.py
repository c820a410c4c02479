"""Differences between the scores of a checkpoint and those of its exports, on images of several sizes.

    python benchmarks/export_agreement.py CHECKPOINT ROOT --model LungAtlas --output results/export_agreement

Scores the same images with the checkpoint, with ONNX Runtime, and with OpenVINO: with the hint for float32, without it,
and without it from a graph that has no precision marks. Writes `agreement.csv` and `run.json`. Differences are those of
`pred_score` before clamping, in units of the range of validation scores; of ONNX Runtime, after clamping.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import onnxruntime
import openvino
import pandas as pd
import torch
from edge import before_clamp
from jsonargparse import auto_cli
from PIL import Image
from sklearn.metrics import roc_auc_score

import anomalib_cxr
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.models.base.module import RadiographModule
from anomalib_cxr.utils.provenance import code_record, write_record

FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}


def resized_image(path: str, size: int, folder: Path) -> np.ndarray:
    """Return an image through an 8-bit PNG of one size, `(1, 3, size, size)`, in [0, 1]."""
    copy = folder / Path(path).with_suffix(".png").name
    Image.open(path).convert("L").resize((size, size), Image.Resampling.BICUBIC).save(copy)
    return read_radiograph(copy).expand(1, 3, -1, -1).numpy()


def pytorch_scores(model: RadiographModule, images: list[np.ndarray]) -> np.ndarray:
    """Score images with the model, normalized as by its post-processor but not clamped."""
    post_processor = model.post_processor
    spread = post_processor.image_max - post_processor.image_min
    with torch.inference_mode():
        raw = [model.model(model.pre_processor(torch.from_numpy(image))).pred_score for image in images]
    return ((torch.cat(raw) - post_processor.image_threshold) / spread + 0.5).numpy().reshape(-1)


def openvino_scores(graph: Path, images: list[np.ndarray], config: dict[str, str]) -> np.ndarray:
    """Score images with an OpenVINO graph, before clamping."""
    network = openvino.Core().read_model(graph)
    network.add_outputs([before_clamp(network)])
    model = openvino.Core().compile_model(network, "CPU", config)
    return np.array([float(model(image)[len(network.outputs) - 1].squeeze()) for image in images])


def differences(
    exports: Path, images: list[np.ndarray], reference: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield runtime, scores and differences."""
    session = onnxruntime.InferenceSession(exports / "weights/onnx/model.onnx")
    scores = np.array([float(session.run(["pred_score"], {"input": image})[0].squeeze()) for image in images])
    yield "ONNX Runtime", scores, scores - reference.clip(0, 1)
    graph, plain = exports / "weights/openvino/model.xml", exports / "without_marks.xml"
    plain.write_text(re.sub(r'<attribute name="precise"[^>]*/>', "", graph.read_text()))
    plain.with_suffix(".bin").write_bytes(graph.with_suffix(".bin").read_bytes())
    for name, path, config in (
        ("OpenVINO, float32 hint", graph, FLOAT32),
        ("OpenVINO, no hint", graph, {}),
        ("OpenVINO, no hint, no marks", plain, {}),
    ):
        scores = openvino_scores(path, images, config)
        yield name, scores, scores - reference


def main(
    checkpoint: Path,
    root: Path,
    output: Path = Path("results/export_agreement"),
    model: Literal["LungAtlas", "RoiSureGanomaly", "Fanogan"] = "RoiSureGanomaly",
    count: int = 60,
    sizes: tuple[int, ...] = (256, 512, 1024),
) -> None:
    """Measure the agreement of scores.

    Args:
        checkpoint: Checkpoint of a trained model.
        root: Folder with radiographs in one of the known layouts.
        output: Folder for the figures.
        model: Class of the model.
        count: Images to score, spread over the set.
        sizes: Sides of the images that are given to the models.
    """
    output.mkdir(parents=True, exist_ok=True)
    samples = make_samples(root)
    samples = samples.iloc[np.linspace(0, len(samples) - 1, count).round().astype(int)]
    trained = getattr(anomalib_cxr, model).load_from_checkpoint(checkpoint, map_location="cpu").eval()
    trained.to_onnx(output)
    trained.to_openvino(output)
    rows = []
    for size in sizes:
        with TemporaryDirectory() as folder:
            images = [resized_image(path, size, Path(folder)) for path in samples.image_path]
        reference = pytorch_scores(trained, images)
        for runtime, scores, difference in differences(output, images, reference):
            row = {
                "model": model,
                "size": size,
                "runtime": runtime,
                "images": len(scores),
                "largest_difference": np.abs(difference).max(),
                "mean_difference": np.abs(difference).mean(),
                "auroc": roc_auc_score(samples.label_index, scores),
                "auroc_pytorch": roc_auc_score(samples.label_index, reference),
            }
            rows.append(row)
            print(row, flush=True)  # noqa: T201
    pd.DataFrame(rows).to_csv(output / "agreement.csv", index=False, float_format="%.3g")
    write_record({**code_record(), "settings": dict(trained.hparams)}, output / "run.json")


if __name__ == "__main__":
    auto_cli(main, as_positional=True)
