"""Revision of the code."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from anomalib_cxr.utils.provenance import git_revision


def git(folder, *words):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    answer = subprocess.run(["git", "-C", folder, *identity, *words], check=True, capture_output=True, text=True)  # noqa: S603, S607
    return answer.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
class TestGit:
    @pytest.fixture
    def checkout(self, tmp_path):
        git(tmp_path, "init", "-q")
        (tmp_path / "code.py").write_text("a = 1\n")
        git(tmp_path, "add", "code.py")
        git(tmp_path, "commit", "-q", "-m", "first")
        return tmp_path

    def test_clean(self, checkout):
        (checkout / "results").mkdir()
        (checkout / "results" / "new.txt").write_text("untracked files do not change the code")
        assert git_revision(checkout) == {"revision": git(checkout, "rev-parse", "HEAD"), "dirty": False}

    def test_changed(self, checkout):
        (checkout / "code.py").write_text("a = 2\n")
        assert git_revision(checkout)["dirty"] is True

    def test_no_commit_yet(self, tmp_path):
        git(tmp_path, "init", "-q")
        assert git_revision(tmp_path) is None

    def test_without_git(self, checkout, monkeypatch):
        monkeypatch.setenv("PATH", "")
        assert git_revision(checkout) is None
