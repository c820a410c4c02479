"""`screening.json` and who belongs to which group."""

from __future__ import annotations

import hashlib
import json
import math
import shutil

import numpy as np
import pytest

from anomalib_cxr.deploy.runtime import hash_of, hash_of_model, read_threshold, write_threshold
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.calibration import record
from anomalib_cxr.screening.calibration.groups import group_name
from anomalib_cxr.screening.calibration.record import read_calibration, write_calibration


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


class TestReference:
    def test_is_of_the_scored_images(self, calibration):
        found = calibration.reference
        assert calibration.format == 5
        healthy = [score for score, is_sick in zip(found.score, found.is_sick, strict=True) if not is_sick]
        assert sorted(healthy) == pytest.approx(np.clip(calibration.healthy, 0, 1))
        assert (found.prevalence, found.sensitivity) == (0.1, 0.7)
        assert set(found.machine) == {"picture"}
        below = [score for score, is_below in zip(found.score, found.is_below, strict=True) if is_below]
        rule = calibration.thresholds[""]
        assert len(below) == rule.n_normal_below + rule.n_sick_below
        assert max(below, default=0) < rule.threshold

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            ({"format": 3}, "format"),
            ({"reference": None}, "reference"),
            ({"healthy": [0.5] * 18}, "another reference than"),
            ({"reference": {"score": [0.5]}}, "'score': 1"),
            ({"reference": {"prevalence": 0.3}}, "another reference than"),
            ({"reference": {"refused_sick": 99}}, "another reference than"),
            ({"reference": {"lung_gray": [2.0]}}, "lung_gray"),
        ],
    )
    def test_that_does_not_fit_is_refused(self, calibration, changed, named):
        content = calibration.model_dump(mode="json")
        for name, value in changed.items():
            content[name] = {**content[name], **value} if isinstance(value, dict) else value
        with pytest.raises(ValueError, match=named):
            record.Calibration.model_validate_json(json.dumps(content))

    def test_may_be_clamped_with_rounding(self, calibration):
        """OpenVINO clamps a quantized score to 0.99999994, where 1 was asked for."""
        content = calibration.model_dump(mode="json")
        scores, is_sick = content["reference"]["score"], content["reference"]["is_sick"]
        highest = max((number for number, sick in enumerate(is_sick) if not sick), key=scores.__getitem__)
        content["healthy"][-1], scores[highest] = 1e6, 0.99999994
        assert record.Calibration.model_validate_json(json.dumps(content)).healthy[-1] == 1e6
        scores[highest] = 0.9999
        with pytest.raises(ValueError, match="another reference than"):
            record.Calibration.model_validate_json(json.dumps(content))


class TestFile:
    def test_holds_for_what_lies_beside_it(self, calibrated, calibration):
        assert calibration.model == hash_of_model(calibrated / "model.xml")
        assert calibration.files == {
            name: hash_of([calibrated / name]) for name in ("lungs.xml", "lungs.bin", "input_check.safetensors")
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
        ("place", "value", "named"),
        [
            ("format", 2, "format 2, as another version .* instead of 5"),
            ("format", None, "format None"),
            ("unknown", 1, "unknown"),
            ("model", None, "model"),
            ("model", "0" * 63, "model"),
            ("files", {}, "files other than lungs.xml"),
            ("grouping", "sex", "groups that grouping 'sex' does not have"),
            ("thresholds", {}, "thresholds"),
            ("thresholds//threshold", 1.5, "threshold"),
            ("thresholds//threshold", math.nan, "threshold"),
            ("thresholds//threshold", "0.5", "threshold"),
            ("thresholds//sensitivity", 0.999, "but the counts show"),
            ("thresholds//lower_bound", 0.999, "but the counts show"),
            ("thresholds//n_sick_below", 99, "more images below"),
            ("thresholds//n_normal", 1000, "other normal images in the groups"),
            ("detection/low", 0.9999, "outside of its interval"),
            ("probability/prevalence", 0, "prevalence"),
            ("probability/prevalence", 2, "prevalence"),
            ("probability/slope", math.nan, "slope"),
            ("probability/slope", -14.0, "slope"),
            ("probability/share", 0.9, "another share of sick images"),
            ("healthy", [], "healthy"),
            ("healthy", "many", "healthy"),
            ("healthy", [0.5], "other healthy scores than normal images"),
            ("counts/sick", -1, "sick"),
            ("validated/sources", [], "sources"),
            ("validated/ages", [60.0, 30.0], "ages from 60"),
            ("validated/least_side", 0, "least_side"),
        ],
    )
    def test_a_value_out_of_its_range(self, model, place, value, named):
        """Whoever writes it also renews the digest: the values themselves are refused."""
        with pytest.raises(ScreeningError, match=rf"screening.json: (.*\n)*.*{named}"):
            self.read_changed(model, place, value)

    @pytest.mark.parametrize(
        ("place", "value"),
        [("probability/slope", 0.2), ("thresholds//threshold", 0.99), ("date", "1999"), ("digest", "")],
    )
    def test_a_value_in_its_range_that_was_changed(self, model, place, value):
        with pytest.raises(ScreeningError, match=r"screening.json: its digest is .*: it was changed"):
            self.read_changed(model, place, value, renew=False)

    def read_changed(self, model, place, value, *, renew=True):
        file = model / "screening.json"
        content = json.loads(file.read_text())
        *folders, name = place.split("/")
        part = content
        for folder in folders:
            part = part[folder]
        part[name] = value
        if renew:
            del content["digest"]
            canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
            content["digest"] = hashlib.sha256(canonical.encode()).hexdigest()
        file.write_text(json.dumps(content))
        return read_calibration(model)

    def test_rewritten_with_the_same_content(self, model, calibration):
        """Order and layout of the file decide nothing."""
        file = model / "screening.json"
        file.write_text(json.dumps(dict(reversed(json.loads(file.read_text()).items()))))
        assert read_calibration(model) == calibration

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000])
    def test_no_json(self, model, content):
        (model / "screening.json").write_bytes(content)
        with pytest.raises(ScreeningError, match=r"screening.json: (.*\n)+.*the record of a calibration"):
            read_calibration(model)

    def test_all_missing_files_at_once(self, model):
        for name in ("lungs.xml", "input_check.safetensors"):
            (model / name).unlink()
        with pytest.raises(ScreeningError, match=r"no lungs.xml, input_check.safetensors in "):
            read_calibration(model)

    def test_a_threshold_that_was_changed_by_hand(self, model, calibration):
        """The label in the graph and the record come from the same number, or nothing is screened."""
        write_threshold(model / "model.xml", 0.9)
        changed = calibration.model_copy(update={"model": hash_of_model(model / "model.xml")})
        write_calibration(changed, model)
        assert read_threshold(model / "model.xml") != changed.label_threshold
        with pytest.raises(ScreeningError, match=r"model.xml.*not the files that were calibrated"):
            read_calibration(model)
