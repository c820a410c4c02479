"""The tutorials and the README, command by command as they stand on their pages, in one folder."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
from pathlib import Path

import httpx
import pandas as pd
import pydicom
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from anomalib_cxr.cli import main
from anomalib_cxr.screening.calibration.record import read_calibration

from .conftest import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[2]
TUTORIAL, WORKLIST, README = (
    REPOSITORY / name for name in ("docs/tutorial.md", "docs/tutorial_worklist.md", "README.md")
)
RUN = "results/LungAtlas/ChestPhantom/latest"
SMALL = {
    "model": {
        "n_components": 20,
        "n_textures": 10,
        "n_bank": 16,
        "max_images": 60,
    },
    "data": {"n_sick": 60, "size": 64},
}
"""Settings of the quickstart that a test can bear; the pages' commands stay as they are."""
pytestmark = pytest.mark.slow


def blocks_of(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands_of(page):
    return [shlex.split(line) for block in blocks_of(page, "bash") for line in block.splitlines()]


@pytest.fixture(scope="module")
def run_all(in_process):
    """Run commands of a page in this process, without the seconds that the start of each takes."""

    def run(commands, folder):
        with pytest.MonkeyPatch.context() as patched:
            patched.chdir(folder)
            for name, *words in commands:
                if name == "anomalib":
                    in_process(folder, *words)
                else:
                    assert name == "anomalib-cxr"
                    main(words)

    return run


def rows_of(folder):
    with (folder / "worklist.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory, run_all):
    """The folder in which all commands of the first tutorial were run."""
    folder = tmp_path_factory.mktemp("tutorial")
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    quickstart = folder / "configs" / "quickstart.yaml"
    settings = yaml.safe_load(quickstart.read_text())
    for section, small in SMALL.items():
        settings[section]["init_args"].update(small)
    quickstart.write_text(yaml.safe_dump(settings))
    run_all(commands_of(TUTORIAL), folder)
    return folder


@pytest.fixture(scope="module")
def followed(tutorial, run_all):
    """The same folder after all commands of the second tutorial but the last."""
    training, *rest, _ = commands_of(WORKLIST)
    assert training == commands_of(TUTORIAL)[0]
    run_all(rest, tutorial)
    return tutorial


def test_the_commands_of_the_pages():
    assert [words[1] for words in commands_of(TUTORIAL)] == ["train", "predict", "export"]
    verbs = ["train", "calibrate", "phantom", "screen", "screen", "screen", "serve"]
    assert [words[1] for words in commands_of(WORKLIST)] == verbs


def test_the_model_of_the_quickstart_detects(tutorial):
    scores = pd.read_csv(tutorial / RUN / "report" / "scores.csv")
    sick, normal = (scores.score[scores.label == label].to_numpy() for label in ("sick", "normal"))
    assert (sick[:, None] > normal).mean() >= 0.95  # AUROC
    assert len(list((tutorial / RUN / "images").rglob("*.png"))) == len(scores)
    assert [path.name for path in (tutorial / "results/LungAtlas/latest/images/CXR_png").iterdir()] == [
        "PHANTOM_0301_1.png"
    ]


def test_the_script_of_the_page_scores(tutorial, command):
    (script,) = blocks_of(TUTORIAL, "python")
    (tutorial / "score.py").write_text(script)
    code, output = command(tutorial, "python", "score.py")
    assert code == 0, output
    answers = dict(re.findall(r"^(PHANTOM_\d+_\d) [\d.]+ (True|False)$", output, re.MULTILINE))
    assert answers == {"PHANTOM_0000_0": "False", "PHANTOM_0301_1": "True"}


def test_the_commands_of_the_readme(tutorial, command):
    (block,) = (block for block in blocks_of(README, "bash") if "anomalib predict" in block)
    training, _, rest = block.partition("\n")
    assert shlex.split(training) == commands_of(TUTORIAL)[0]
    path = f"PATH={shlex.quote(str(COMMANDS))}:$PATH"
    code, output = command(tutorial, shutil.which("bash"), "-ec", f"{path}\n{rest}")
    assert code == 0, output
    assert "PHANTOM_0301_1.png" in output


def without_numbers(text):
    return re.sub(r"\d+(\.\d+)?", "#", " ".join(text.split()))


def test_the_sample_output_of_the_page_is_that_of_the_command(followed):
    (sample,) = (block for block in blocks_of(WORKLIST, "text") if "images scored" in block)
    calibration = read_calibration(followed / RUN / "weights" / "openvino")
    said = f"{calibration.description}\nReady to screen: {RUN}/weights/openvino"
    assert without_numbers(sample) == without_numbers(said)


def test_the_calibrated_model_detects(followed):
    calibration = read_calibration(followed / RUN / "weights" / "openvino")
    assert calibration.weaknesses == ()
    assert calibration.detection.low > 0.9


def test_sick_phantoms_are_above_healthy_ones(followed):
    """The order of the page: what is to be read first, and no healthy phantom above a sick one but by rare accident."""
    rows = [row for row in rows_of(followed / "results/worklist") if row["source"] == "picture"]
    sick = [Path(row["path"]).stem.endswith("_1") for row in rows]
    assert sick.count(True) == 10
    assert roc_auc_score(sick, [-place for place in range(len(rows))]) >= 0.95
    read = [row["decision"] == "to be read" for row in rows]
    assert read == sorted(read, reverse=True)
    assert sum(each for each, is_sick in zip(read, sick, strict=True) if is_sick) >= 9
    assert sum(each for each, is_sick in zip(read, sick, strict=True) if not is_sick) <= 3


def test_numbers_never_contradict_the_decision(followed):
    """Rank, score and probability of what is to be read are above those of what is not."""
    rows = [row for row in rows_of(followed / "results/worklist") if row["source"] == "picture"]
    for name in ("score", "raw_score", "probability"):
        values = [float(row[name]) for row in rows]
        assert values == sorted(values, reverse=True)
    for row in rows:
        assert (float(row["score"]) >= float(row["threshold"])) == (row["decision"] == "to be read")


def test_pictures_are_below_the_threshold_or_to_be_read(followed):
    rows = [row for row in rows_of(followed / "results/worklist") if row["source"] == "picture"]
    assert len(rows) == 25
    assert {row["decision"] for row in rows} <= {"below the calibrated threshold", "to be read"}
    assert all((followed / "results/worklist" / row["heatmap"]).is_file() for row in rows)
    assert [float(row["probability"]) for row in rows] == sorted(
        (float(row["probability"]) for row in rows), reverse=True
    )


def test_dicom_is_refused_until_it_is_vouched_for(followed):
    refused = [row for row in rows_of(followed / "results/worklist") if row["source"] != "picture"]
    assert len(refused) == 25
    reason = "refused: never validated on this kind of source: DICOM DX, anomalib_cxr phantom"
    assert {row["decision"] for row in refused} == {reason}


def test_dicom_scores_as_the_pictures_do(followed):
    pictures = [float(row["score"]) for row in rows_of(followed / "results/worklist") if row["score"]]
    dicom = [float(row["score"]) for row in rows_of(followed / "results/worklist_dicom")]
    assert dicom == pytest.approx(pictures, abs=1e-5)


def test_each_dicom_has_its_objects(followed):
    objects = [pydicom.dcmread(path) for path in (followed / "results/worklist_dicom/dicom").glob("*.dcm")]
    assert sorted(each.Modality for each in objects) == [name for name in ("DOC", "OT", "PR", "SR") for _ in range(25)]
    studies = {row["study_uid"] for row in rows_of(followed / "results/worklist_dicom")}
    assert {each.StudyInstanceUID for each in objects} == studies


def test_the_page_takes_an_image_and_a_verdict(followed, serving):
    name, *words = commands_of(WORKLIST)[-1]
    image = followed / "results/archive/CXR_png/PHANTOM_0020_1.png"
    with (
        serving(followed, name, *words, "--port", "0") as address,
        httpx.Client(base_url=address, timeout=120) as reader,
    ):
        table = reader.get("/")
        assert "Not a medical device" in table.text
        csrf = re.search(r'name="csrf" value="([0-9a-f]+)"', table.text)[1]
        sent = reader.post("/upload", data={"csrf": csrf}, files={"image": ("new.png", image.read_bytes())})
        assert sent.status_code == 303
        case = sent.headers["location"].split("?")[0]
        content = re.search(r'name="content" value="(\w+)"', reader.get(case).text)[1]
        form = {"csrf": csrf, "content": content, "verdict": "abnormal", "reader": "A", "note": "seen"}
        assert reader.post(f"{case}/verdict", data=form).status_code == 303
        (verdict,) = csv.DictReader(reader.get("/verdicts.csv").text.splitlines())
    scores = {row["path"]: row["score"] for row in rows_of(followed / "results/worklist")}
    assert float(verdict["score"]) == pytest.approx(float(scores[str(image.resolve())]), abs=1e-5)
    assert (verdict["verdict"], verdict["reader"], verdict["note"]) == ("abnormal", "A", "seen")
