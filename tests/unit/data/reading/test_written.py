"""Images that this package wrote are refused wherever they are, and X-rays with any other text are not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.errors import RadiographError
from anomalib_cxr.screening.pipeline.explanation import write_png


def test_a_heatmap_is_no_radiograph(tmp_path):
    write_png(np.zeros((32, 32, 3), np.uint8), tmp_path / "moved.png")
    assert Image.open(tmp_path / "moved.png").info == {"Software": "anomalib_cxr"}
    with pytest.raises(RadiographError, match=r"moved.png: written by anomalib_cxr"):
        read_radiograph(tmp_path / "moved.png")


@pytest.mark.parametrize("software", [None, "", "Acme Viewer", "anomalib_cxr_2"])
def test_an_xray_of_another_program_is(tmp_path, software):
    info = PngInfo()
    if software is not None:
        info.add_text("Software", software)
    Image.new("L", (32, 32), 51).save(tmp_path / "a.png", pnginfo=info)
    assert read_radiograph(tmp_path / "a.png").max() == pytest.approx(0.2)
