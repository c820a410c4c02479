"""Files of weights inside the package."""

from __future__ import annotations

import hashlib

import pytest

from anomalib_cxr.errors import SegmenterError
from anomalib_cxr.utils.packaged_file import read_packaged


def test_the_content_of_the_file_that_was_packaged(tmp_path):
    (tmp_path / "weights").write_bytes(b"weights")
    assert read_packaged(tmp_path / "weights", hashlib.sha256(b"weights").hexdigest(), SegmenterError) == b"weights"


@pytest.mark.parametrize(("content", "found"), [(None, "cannot be read"), (b"other", "SHA-256 d9298a10d1b07358")])
def test_another_file_is_refused(tmp_path, content, found):
    if content is not None:
        (tmp_path / "weights").write_bytes(content)
    with pytest.raises(SegmenterError, match=found) as caught:
        read_packaged(tmp_path / "weights", "0" * 64, SegmenterError, "give another one")
    assert caught.value.next_step == "install anomalib-cxr again; or give another one"
