"""Scores of labeled images."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from anomalib_cxr.errors import DatasetError
from anomalib_cxr.screening.labeled_scores import score_images


def test_view_of_the_header_where_the_data_have_none(pipeline_of, dicoms, images):
    """The phantoms' DICOM files are of the view PA."""
    table = pd.DataFrame({"path": [*dicoms, images[0]], "is_sick": False, "view": ["", "AP", ""]})
    assert score_images(pipeline_of(), table)["view"].tolist() == ["PA", "AP", ""]


def test_scores_that_are_no_finite_numbers(pipeline_of, images):
    """All of them are named; a model that gives them cannot be calibrated."""
    pipeline = pipeline_of()
    raw_scores = dict(zip(images[:3], (float("inf"), 0.5, float("nan")), strict=True))

    def score(files):
        for results in pipeline(files):
            yield [replace(result, raw_score=raw_scores[result.path]) for result in results]

    table = pd.DataFrame({"path": images[:3], "is_sick": False, "view": ""})
    with pytest.raises(DatasetError, match="2 of 3 labeled images that cannot be read or scored") as error:
        score_images(score, table)
    assert error.value.offenders == {"a score that is no finite number": [images[0], images[2]]}
