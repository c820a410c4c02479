"""The command `anomalib-cxr` as a whole: its scheme of arguments, its version and its errors."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import pytest

from anomalib_cxr.cli import VERBS, main


def functions(verbs=VERBS):
    return [function for verb in verbs.values() for function in ([verb] if callable(verb) else functions(verb))]


def said(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    captured = capsys.readouterr()
    return ended.value.code, captured.out + captured.err


def test_version(capsys):
    assert said(capsys, "--version") == (0, f"anomalib-cxr {version('anomalib-cxr')}\n")


def test_one_name_for_one_thing_in_all_verbs():
    names = {name for function in functions() for name in inspect.signature(function).parameters}
    assert names.isdisjoint({"inputs", "out", "path", "model_folder", "data_root", "dir"})
    assert {"model", "worklist", "root", "segmenter", "output"} <= names


@pytest.mark.parametrize("words", [["scren"], [], ["segment"], ["segment", "trian"], ["screen"], ["screen", "--modle"]])
def test_wrong_words_get_a_short_answer(capsys, words):
    code, output = said(capsys, *words)
    assert code == 2
    assert len(output.splitlines()) == 2
    assert output.startswith("anomalib-cxr")
    assert "--help" in output.splitlines()[1]


@pytest.mark.parametrize("words", [["screen", ""], ["screen", "x", "--model", " "], ["calibrate", "--table", ""]])
def test_an_empty_path_is_not_the_current_folder(capsys, words):
    code, output = said(capsys, *words)
    assert code == 2
    assert "an empty path, expected a file or a folder" in output


def test_ctrl_c_is_one_line(capsys, monkeypatch, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("anomalib_cxr.utils.examples.copy_examples", interrupt)
    assert said(capsys, "init", tmp_path) == (130, "anomalib-cxr init: interrupted\n")


def test_init(capsys, tmp_path):
    main(["init", str(tmp_path / "mine")])
    assert (tmp_path / "mine" / "configs" / "quickstart.yaml").is_file()
    code, output = said(capsys, "init", tmp_path / "mine")
    assert code == 1
    assert "anomalib-cxr init: found:" in output
    assert "quickstart.yaml" in output
