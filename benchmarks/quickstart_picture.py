"""The picture of the quickstart in the README: phantoms, and their heatmaps by the model that the quickstart trained.

    anomalib train --config configs/quickstart.yaml
    python benchmarks/quickstart_picture.py --output docs/images/quickstart.png

Shows a healthy phantom of the test set and one of each finding, those of the median score of their kind: neither the
best nor the worst. Their colors are those of the worklist.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jsonargparse import auto_cli
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from anomalib_cxr import LungAtlas
from anomalib_cxr.data.phantom.findings import FINDINGS
from anomalib_cxr.data.reading.radiograph import read_mask, read_radiograph
from anomalib_cxr.screening.heat_colors import TICKS, heat_palette
from anomalib_cxr.screening.pipeline.explanation import draw_heatmap

INCHES = 1.92
LESION = "#00e5ff"
GRAY = 0.44
"""Gray below the color bar, of an X-ray between lung and bone."""


def median_images(run: Path, data: Path) -> dict[str, Path]:
    """Return the test image of median score of healthy phantoms and of those with each finding."""
    n_normal = json.loads((data / "phantoms.json").read_text())["n_normal"]
    scores = pd.read_csv(run / "report/scores.csv").sort_values("score")
    number = scores.image.str.extract(r"_(\d+)_[01]\.png$", expand=False).astype(int) - n_normal
    names = np.array(list(FINDINGS))
    scores["kind"] = np.where(number < 0, "healthy", names[number % len(names)])
    middle = {kind: rows.image.iloc[len(rows) // 2] for kind, rows in scores.groupby("kind")}
    return {kind: data / middle[kind] for kind in ("healthy", *names)}


def main(
    run: Path = Path("results/LungAtlas/ChestPhantom/latest"),
    data: Path = Path("datasets/chest_phantom"),
    output: Path = Path("results/quickstart.png"),
) -> None:
    """Draw the picture.

    Args:
        run: Folder of the training.
        data: Folder of the phantoms that it drew.
        output: The PNG file to write.
    """
    model = LungAtlas.load_from_checkpoint(run / "weights/lightning/model.ckpt", map_location="cpu").eval()
    shown = median_images(run, data)
    figure = Figure(figsize=(INCHES * len(shown), 2 * INCHES + 1.1), layout="constrained")
    axes = figure.subplots(2, len(shown))
    for (kind, path), (above, below) in zip(shown.items(), axes.T, strict=True):
        image = read_radiograph(path)  # (1, H, W)
        with torch.inference_mode():
            heat = model(image.expand(1, 3, -1, -1)).anomaly_map.squeeze().numpy()
        above.imshow(image[0], cmap="gray", vmin=0, vmax=1)
        above.set_title(kind, fontsize=10)
        below.imshow(draw_heatmap(image[0].numpy(), heat, np.zeros_like(heat)))  # without the outline of the lungs
        for panel in (above, below):
            panel.set_axis_off()
        lesion = data / "lesions" / path.name
        if lesion.is_file():
            below.contour(read_mask(lesion).squeeze(), levels=[0.5], colors=LESION, linewidths=0.9)
    palette = heat_palette()
    colors = ListedColormap(palette[:, :3] * palette[:, 3:] + GRAY * (1 - palette[:, 3:]))
    bar = figure.colorbar(ScalarMappable(cmap=colors), ax=axes, location="bottom", shrink=0.4, aspect=40)
    bar.set_ticks([heat for heat, _ in TICKS], labels=[label for _, label in TICKS])
    bar.set_label("standard deviations above healthy phantoms at the same place", fontsize=9)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=100)


if __name__ == "__main__":
    auto_cli(main)
