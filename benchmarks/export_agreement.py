"""Whether a checkpoint and what is exported from it give the same scores, on images of several sizes.

    python benchmarks/export_agreement.py CHECKPOINT ROOT --output results/export_agreement

Scores the same images with the checkpoint (by anomalib's prediction loop), with ONNX Runtime and with OpenVINO (by
anomalib's inferencer, in its default settings and told to use bfloat16, which it would by itself do for a model
without the mark). Writes `agreement.csv` and `run.json`.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import pandas as pd
from anomalib.deploy import OpenVINOInferencer
from anomalib.engine import Engine
from jsonargparse import auto_cli
from PIL import Image

from anomalib_cxr import RadiographFolder, RoiSureGanomaly
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.utils.provenance import code_record, write_record


def resized_copies(paths: list[str], size: int, folder: Path) -> list[Path]:
    """Write the images as 8-bit PNG of one size."""
    copies = []
    for path in paths:
        copies.append(folder / Path(path).with_suffix(".png").name)
        Image.open(path).convert("L").resize((size, size), Image.Resampling.BICUBIC).save(copies[-1])
    return copies


def checkpoint_scores(checkpoint: Path, folder: Path) -> np.ndarray:
    """Score a folder with a checkpoint, as `anomalib predict` does."""
    model = RoiSureGanomaly.load_from_checkpoint(checkpoint)
    model.visualizer = None
    engine = Engine(default_root_dir=folder.parent / "engine", enable_progress_bar=False, accelerator="cpu")
    batches = engine.predict(model, dataset=RadiographFolder(folder), ckpt_path=checkpoint, return_predictions=True)
    return np.array([float(batch.pred_score) for batch in batches])


def exported_scores(exports: Path, copies: list[Path]) -> dict[str, np.ndarray]:
    """Score files with the exported models."""
    session = onnxruntime.InferenceSession(exports / "weights/onnx/model.onnx")
    inferencers = {
        name: OpenVINOInferencer(exports / "weights/openvino/model.xml", device="CPU", config=config)
        for name, config in {"openvino": None, "openvino, bf16 hint": {"INFERENCE_PRECISION_HINT": "bf16"}}.items()
    }
    images = [read_radiograph(copy).expand(3, -1, -1).numpy() for copy in copies]
    scores = {"onnxruntime": [float(session.run(["pred_score"], {"input": image[None]})[0][0]) for image in images]}
    for name, inferencer in inferencers.items():
        scores[name] = [float(np.squeeze(inferencer.predict(image).pred_score)) for image in images]
    return {name: np.array(values) for name, values in scores.items()}


def main(
    checkpoint: Path,
    root: Path,
    output: Path = Path("results/export_agreement"),
    count: int = 60,
    sizes: tuple[int, ...] = (256, 512, 1024),
) -> None:
    """Measure the agreement of scores.

    Args:
        checkpoint: A trained RoiSureGanomaly.
        root: Folder with radiographs in one of the known layouts.
        output: Folder for the figures.
        count: Images to score, spread over the set.
        sizes: Sides of the images that are given to the models.
    """
    output.mkdir(parents=True, exist_ok=True)
    paths = make_samples(root).image_path
    chosen = list(paths.iloc[np.linspace(0, len(paths) - 1, count).round().astype(int)])
    model = RoiSureGanomaly.load_from_checkpoint(checkpoint).eval()
    model.to_onnx(output)
    model.to_openvino(output)
    rows = []
    for size in sizes:
        with TemporaryDirectory() as folder:
            (images := Path(folder) / "images").mkdir()
            copies = sorted(resized_copies(chosen, size, images))
            reference = checkpoint_scores(checkpoint, images)
            for runtime, scores in exported_scores(output, copies).items():
                difference = np.abs(scores - reference)
                relative = difference / np.maximum(np.abs(reference), np.finfo(np.float32).tiny)
                rows.append(
                    {
                        "size": size,
                        "runtime": runtime,
                        "images": len(scores),
                        "largest_difference": difference.max(),
                        "largest_relative_difference": relative[reference > 0].max(),
                        "lowest_score": reference.min(),
                        "highest_score": reference.max(),
                    }
                )
    table = pd.DataFrame(rows)
    table.to_csv(output / "agreement.csv", index=False, float_format="%.3g")
    write_record({**code_record(), "settings": dict(model.hparams)}, output / "run.json")


if __name__ == "__main__":
    auto_cli(main, as_positional=True)
