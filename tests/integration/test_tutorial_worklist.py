"""The tutorial from an X-ray archive to a worklist, command by command as it stands on its page."""

import csv
import re
import shlex
from pathlib import Path

import httpx
import pydicom
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "tutorial_worklist.md"


def commands_of(page):
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def rows_of(folder):
    with (folder / "worklist.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def followed(tmp_path_factory, command):
    """The folder in which all commands but the last were run."""
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / "configs").symlink_to(REPOSITORY / "configs")
    for name, *words in commands_of(PAGE)[:-1]:
        answer = command(folder, name, *words)
        assert answer.code == 0, answer.output
    return folder


def test_the_commands_of_the_page():
    verbs = ["train", "calibrate", "phantom", "screen", "screen", "screen", "serve"]
    assert [words[1] for words in commands_of(PAGE)] == verbs


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


def test_each_dicom_has_a_capture_and_a_report(followed):
    objects = [pydicom.dcmread(path) for path in (followed / "results/worklist_dicom/dicom").iterdir()]
    assert sorted(each.Modality for each in objects) == ["OT"] * 25 + ["SR"] * 25
    studies = {row["study_uid"] for row in rows_of(followed / "results/worklist_dicom")}
    assert {each.StudyInstanceUID for each in objects} == studies


def test_the_page_takes_an_image_and_a_verdict(followed, serving):
    name, *words = commands_of(PAGE)[-1]
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
        form = {"csrf": csrf, "verdict": "abnormal", "reader": "A", "note": "seen"}
        assert reader.post(f"{case}/verdict", data=form).status_code == 303
        (verdict,) = csv.DictReader(reader.get("/verdicts.csv").text.splitlines())
    scores = {row["path"]: row["score"] for row in rows_of(followed / "results/worklist")}
    assert float(verdict["score"]) == pytest.approx(float(scores[str(image.resolve())]), abs=1e-5)
    assert (verdict["verdict"], verdict["reader"], verdict["note"]) == ("abnormal", "A", "seen")
