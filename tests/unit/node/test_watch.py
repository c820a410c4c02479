"""Hot folders: new and changed files are queued when they do not change any more."""

from __future__ import annotations

import os

import pytest

from anomalib_cxr.errors import DatasetError
from anomalib_cxr.node.watch import FolderWatch, watch_folders
from anomalib_cxr.screening.pipeline.screener import ScreenerSettings


@pytest.fixture
def left_out():
    return []


@pytest.fixture
def inbox(tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def watch(inbox, queue, clock, left_out):
    return FolderWatch([inbox], queue, left_out.append, clock)


def pass_time(clock, watch, seconds):
    for _ in range(seconds):
        clock.now += 1
        watch.look()


def test_a_new_file_waits_until_it_does_not_change(inbox, watch, queue, clock):
    assert watch.find() == []
    file = inbox / "a.png"
    file.write_bytes(b"half")
    pass_time(clock, watch, 8)
    file.write_bytes(b"half and half")
    pass_time(clock, watch, 9)
    assert queue.take() == []
    pass_time(clock, watch, 3)
    assert queue.take() == [file]
    pass_time(clock, watch, 30)
    assert queue.take() == []


def test_a_file_that_changes_later_comes_again(inbox, watch, queue, clock):
    file = inbox / "a.png"
    file.write_bytes(b"one")
    assert watch.find() == [file]
    pass_time(clock, watch, 30)
    assert queue.take() == []  # what was there before is the business of who called find
    os.utime(file, ns=(1, 1))
    pass_time(clock, watch, 12)
    assert queue.take() == [file]


def test_one_that_went_away_and_came_back(inbox, watch, queue, clock):
    file = inbox / "a.png"
    file.write_bytes(b"one")
    watch.find()
    file.unlink()
    pass_time(clock, watch, 2)
    file.write_bytes(b"one")
    pass_time(clock, watch, 12)
    assert queue.take() == [file]


def test_a_stream_of_files_holds_up_none(inbox, watch, queue, clock):
    taken = []
    for number in range(40):
        (inbox / f"{number}.png").write_bytes(b"x")
        pass_time(clock, watch, 1)
        taken += queue.take()
    assert len(taken) >= 28


def test_what_is_left_out_is_told_when_it_changes(inbox, watch, clock, left_out):
    (inbox / ".hidden").write_bytes(b"x")
    pass_time(clock, watch, 3)
    (inbox / "note.txt").write_text("x")
    pass_time(clock, watch, 3)
    assert [sum(map(len, each.values())) for each in left_out] == [1, 2]


def test_a_folder_that_goes_away_for_a_while(inbox, watch, queue, clock):
    """As a network drive does."""
    inbox.rmdir()
    pass_time(clock, watch, 3)
    inbox.mkdir()
    (inbox / "a.png").write_bytes(b"x")
    pass_time(clock, watch, 12)
    assert queue.take() == [inbox / "a.png"]


def test_no_folder(tmp_path):
    with pytest.raises(DatasetError, match="no folder"):
        watch_folders([tmp_path / "none"], ScreenerSettings(tmp_path, tmp_path / "out"), 1)
