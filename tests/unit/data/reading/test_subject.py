"""What a DICOM header states about the subject; codes come from pydicom's own dictionaries of PS3.16."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    SecondaryCaptureImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.data.reading.subject import check_subject
from anomalib_cxr.errors import RadiographError

SHARED = Path(__file__).resolve().parents[5] / "shared"
PATH = Path("chest.dcm")


def header(**attributes):
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def coded(*found):
    return [
        header(CodeValue=code.value, CodingSchemeDesignator=code.scheme_designator, CodeMeaning=code.meaning)
        for code in found
    ]


def refusal(**attributes):
    with pytest.raises(RadiographError) as caught:
        check_subject(PATH, header(**attributes))
    assert caught.value.path == PATH
    return caught.value.reason


FRONTAL = [codes.cid4010.AnteroPosterior, codes.cid4010.PosteroAnterior, codes.cid4010.Frontal]


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        *({"Modality": modality} for modality in ("CR", "DX", "RG", "dx ", "")),
        *({"SOPClassUID": uid} for uid in (ComputedRadiographyImageStorage, SecondaryCaptureImageStorage, "1.2.3", "")),
        *({"BodyPartExamined": part} for part in ("CHEST", "Thorax", "LUNG", "CHEST PA", "PORT_CHEST", "", "UNKNOWN")),
        *({"PatientOrientation": value} for value in (["L", "F"], ["LH", "FL"], ["l", "f"], "", ["", ""], None)),
        *({"ViewCodeSequence": coded(code)} for code in FRONTAL),
        *(
            {"ViewCodeSequence": coded(Code(value, "SRT", "?"))}
            for value in ("R-10206", "R-10214", "R-40888", "R-10202")
        ),
        {"ViewCodeSequence": coded(Code("17", "99HOSPITAL", "Chest postero-anterior"))},
        {"ViewCodeSequence": []},
        {"ViewCodeSequence": [Dataset()]},
        {"AnatomicRegionSequence": coded(codes.cid4009.Chest)},
        {"AnatomicRegionSequence": coded(Code("T-D3000", "SRT", "Chest"))},
        {"AnatomicRegionSequence": coded(Code("T-28000", "SNM3", "Lung"))},
        {"AnatomicRegionSequence": coded(Code("17", "99HOSPITAL", "Thorax"))},
        {"NumberOfFrames": 1},
    ],
)
def test_a_frontal_chest_or_no_statement_is_accepted(attributes):
    check_subject(PATH, header(**attributes))


@pytest.mark.parametrize(
    "modality",
    ["RF", "MG", "PX", "IO", "BMD", "RTIMAGE", "XA", "CT", "MR", "US", "PT", "NM", "OT", "SC", "SEG", "SR", "NEW"],
)
def test_only_radiographs(modality):
    assert refusal(Modality=modality) == f"Modality (0008,0060) = '{modality}'"


def test_the_storage_class_decides_without_a_modality():
    assert refusal(SOPClassUID=CTImageStorage) == "SOPClassUID (0008,0016) = 'CT Image Storage'"
    assert "Radiofluoroscopic" in refusal(Modality="", SOPClassUID=XRayRadiofluoroscopicImageStorage)


@pytest.mark.parametrize("name", sorted(set(codes.cid4010.dir()) - {"AnteroPosterior", "PosteroAnterior", "Frontal"}))
def test_every_other_view_of_the_standard(name):
    code = getattr(codes.cid4010, name)
    assert refusal(ViewCodeSequence=coded(code)).startswith(f"ViewCodeSequence (0054,0220) = '{code.meaning} (")


def test_lateral_by_codes_of_other_schemes():
    assert "Left lateral (R-10236, SRT)" in refusal(ViewCodeSequence=coded(Code("R-10236", "SNM3", "Left lateral")))
    assert "Thorax lat" in refusal(ViewCodeSequence=coded(Code("3", "99HOSPITAL", "Thorax lat")))
    assert "AP oblique" in refusal(ViewCodeSequence=coded(Code("3", "99HOSPITAL", "AP oblique")))


@pytest.mark.parametrize("view", ["LL", "RL", "LATERAL", "LAT"])
def test_lateral_by_view_position(view):
    assert refusal(ViewPosition=view) == f"ViewPosition (0018,5101) = '{view}', a lateral view"


@pytest.mark.parametrize(
    ("orientation", "pose"),
    [
        (["A", "F"], "a lateral view"),
        (["P", "F"], "a lateral view"),
        (["L", "P"], "an axial view"),
        (["R", "F"], "mirrored"),
        (["L", "H"], "upside down as in a mirror"),
        (["R", "H"], "turned by 180 degrees"),
        (["H", "L"], "turned by 90 degrees"),
        (["F", "R"], "turned by 90 degrees"),
        (["L", "X"], "no upright frontal view"),
    ],
)
def test_orientations(orientation, pose):
    reason = refusal(PatientOrientation=orientation)
    assert reason.startswith("PatientOrientation (0020,0020) = '")
    assert reason.endswith(f"', {pose}")


@pytest.mark.parametrize(
    "part",
    ["HAND", "HIP", "ABDOMEN", "EXTREMITY", "SKULL", "TSPINE", "BREAST", "SHOULDER", "CHESTABDOMEN", "CHEST ABDOMEN"],
)
def test_other_parts_of_the_body(part):
    assert refusal(BodyPartExamined=part) == f"BodyPartExamined (0018,0015) = '{part}'"


@pytest.mark.parametrize("name", ["Hip", "Hand", "Abdomen", "ThoracicSpine", "Rib", "ChestAndAbdomen", "Shoulder"])
def test_other_regions(name):
    code = getattr(codes.cid4009, name)
    assert code.meaning in refusal(AnatomicRegionSequence=coded(code))


def test_all_contradictions_at_once_and_cut():
    reason = refusal(Modality="RF", BodyPartExamined="HIP" * 99, PatientOrientation=["A", "F"], NumberOfFrames=2)
    assert [part.split()[0] for part in reason.split("; ")] == [
        "Modality",
        "BodyPartExamined",
        "PatientOrientation",
        "NumberOfFrames",
    ]
    assert len(reason) < 300


def shared(folder):
    if not (SHARED / folder).is_dir():
        pytest.skip("the files are not there")
    return sorted((SHARED / folder).glob("*.dcm"))


def test_files_that_say_so():
    for path, named in zip(
        shared("cases/15_lateral_by_coded_view"),
        ["lateral", "lateral", "lateral", "lateral", "upside down", "mirrored"],
        strict=True,
    ):
        with pytest.raises(RadiographError, match=named):
            read_radiograph(path)


def test_real_files_of_other_kinds():
    """The teeth state a modality of radiographs and no part of the body: only their pixels tell."""
    for path in shared("data/external/dicom/nonchest"):
        if "teeth" not in path.name:
            with pytest.raises(RadiographError, match=r"Modality|BodyPartExamined"):
                check_subject(path, dcmread(path, stop_before_pixels=True))


def test_real_chests():
    for path in shared("data/external/dicom/chest"):
        dataset = dcmread(path, stop_before_pixels=True, force=True)
        if path.name.startswith("rentgenprom"):  # rows towards the head
            with pytest.raises(RadiographError, match="turned by 90 degrees"):
                check_subject(path, dataset)
        else:
            check_subject(path, dataset)
