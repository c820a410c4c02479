"""The tables of readings beside the sets on Kaggle."""

from __future__ import annotations

import pytest

from anomalib_cxr.data.sources.kaggle_readings import read_kaggle_readings
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.errors import DatasetError

HEADER = "study_id,sex,age,findings\n"


@pytest.fixture
def kaggle_root(tmp_path):
    (tmp_path / "images" / "images").mkdir(parents=True)
    for name in ("CHNCXR_0001_0.png", "CHNCXR_0002_1.png", "CHNCXR_0003_1.png"):
        (tmp_path / "images" / "images" / name).touch()
    rows = 'CHNCXR_0001_0.png,Male,45,normal\nCHNCXR_0002_1.png,Female,6 months,"PTB, left"\n'
    (tmp_path / "shenzhen_metadata.csv").write_text(HEADER + rows)
    return tmp_path


def test_readings_of_the_samples(kaggle_root):
    samples = make_samples(kaggle_root)
    assert samples.sex[:2].tolist() == ["M", "F"]
    assert samples.age[:2].tolist() == [45, 0.5]
    assert samples.reading[:2].tolist() == ["normal", "PTB, left"]
    assert samples.iloc[2][["sex", "age", "reading"]].isna().all()


def test_one_level_below(kaggle_root):
    assert read_kaggle_readings(kaggle_root.parent).keys() == {"CHNCXR_0001_0", "CHNCXR_0002_1"}


@pytest.mark.parametrize(("content", "found"), [(b"", "cannot be read"), (b"study_id,sex\n", "without age, findings")])
def test_a_table_that_cannot_be_used(kaggle_root, content, found):
    (kaggle_root / "shenzhen_metadata.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=f"shenzhen_metadata.csv:? {found}"):
        make_samples(kaggle_root)
