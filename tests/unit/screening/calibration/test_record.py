"""`screening.json` and who belongs to which group."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from anomalib_cxr.deploy.runtime import hash_of, hash_of_model, read_threshold, write_threshold
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.calibration.record import group_name, read_calibration, write_calibration


class TestGroups:
    @pytest.mark.parametrize(
        ("age", "group"),
        [
            (0.0, "0 to 17 years"),
            (17.9, "0 to 17 years"),
            (18, "18 to 39 years"),
            (39.99, "18 to 39 years"),
            (40, "40 to 59 years"),
            (60, "60 years and over"),
            (101, "60 years and over"),
            (None, "unknown"),
        ],
    )
    def test_age(self, age, group):
        assert group_name("age", "a", "F", age) == group

    @pytest.mark.parametrize(
        ("grouping", "group", "unknown"), [("hospital", "a", "unknown"), ("sex", "F", "unknown"), ("none", "", "")]
    )
    def test_others(self, grouping, group, unknown):
        assert group_name(grouping, "a", "F", 30) == group
        assert group_name(grouping, "", "", None) == unknown

    def test_whoever_is_in_no_group_gets_the_lowest_threshold(self, calibration):
        rule = calibration.thresholds[""]
        rules = {sex: rule.model_copy(update={"threshold": at}) for sex, at in {"F": 0.3, "M": 0.2}.items()}
        found = calibration.model_copy(update={"grouping": "sex", "thresholds": rules})
        assert [found.group_of("", sex, 50) for sex in ("F", "M", "")] == ["F", "M", "M"]
        assert found.label_threshold == 0.2


class TestIdentity:
    def test_is_the_hash_of_the_canonical_json(self, calibrated, calibration):
        found = json.loads((calibrated / "screening.json").read_text())
        found.pop("digest", None)
        canonical = json.dumps(found, sort_keys=True, separators=(",", ":"))
        assert calibration.identity == hashlib.sha256(canonical.encode()).hexdigest()

    @pytest.mark.parametrize("changed", ["prevalence", "threshold", "healthy", "least_side"])
    def test_differs_where_a_number_that_decides_differs(self, calibration, changed):
        """Another prevalence alone leaves the model as it is; rows of the two must not be mixed."""
        at = {
            "prevalence": {"probability": calibration.probability.model_copy(update={"prevalence": 0.2})},
            "threshold": {"thresholds": {"": calibration.thresholds[""].model_copy(update={"threshold": 0.0})}},
            "healthy": {"healthy": calibration.healthy[:-1]},
            "least_side": {"validated": calibration.validated.model_copy(update={"least_side": 17})},
        }
        other = calibration.model_copy(update=at[changed])
        assert other.model == calibration.model
        assert other.identity != calibration.identity


class TestFile:
    def test_holds_for_what_lies_beside_it(self, calibrated, calibration):
        assert calibration.model == hash_of_model(calibrated / "model.xml")
        assert calibration.files == {
            name: hash_of([calibrated / name]) for name in ("lungs.xml", "lungs.bin", "input_check.npz")
        }

    def test_is_what_was_written(self, model, calibration):
        write_calibration(calibration, model)
        assert read_calibration(model) == read_calibration(model / "model.xml") == calibration

    def test_may_be_read_elsewhere(self, calibrated, calibration, tmp_path):
        assert read_calibration(shutil.copytree(calibrated, tmp_path / "other place")) == calibration

    def test_is_json_that_others_read(self, calibrated, calibration):
        found = json.loads((calibrated / "screening.json").read_text())
        assert found["thresholds"][""]["threshold"] == calibration.thresholds[""].threshold
        assert found["healthy"] == list(calibration.healthy)
        assert {"anomalib", "torch"} <= set(found["versions"])

    @pytest.mark.parametrize(
        "damage", [{"format": 2}, {"unknown": 1}, {"thresholds": {}}, {"model": None}, {"healthy": "many"}]
    )
    def test_something_else(self, model, damage):
        file = model / "screening.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **damage}))
        with pytest.raises(ScreeningError, match=rf"screening.json: (.*\n)+.*{next(iter(damage))}"):
            read_calibration(model)

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
    def test_no_json(self, model, content):
        (model / "screening.json").write_bytes(content)
        with pytest.raises(ScreeningError, match=r"screening.json: (.*\n)+.*the record of a calibration"):
            read_calibration(model)

    def test_all_missing_files_at_once(self, model):
        for name in ("lungs.xml", "input_check.npz"):
            (model / name).unlink()
        with pytest.raises(ScreeningError, match=r"no lungs.xml, input_check.npz in "):
            read_calibration(model)

    def test_a_threshold_that_was_changed_by_hand(self, model, calibration):
        """The label in the graph and the record come from the same number, or nothing is screened."""
        write_threshold(model / "model.xml", 0.9)
        changed = calibration.model_copy(update={"model": hash_of_model(model / "model.xml")})
        write_calibration(changed, model)
        assert read_threshold(model / "model.xml") != changed.label_threshold
        with pytest.raises(ScreeningError, match=r"model.xml.*not the files that were calibrated"):
            read_calibration(model)
