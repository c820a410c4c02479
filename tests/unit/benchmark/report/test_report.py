"""The whole report: HTML and Markdown of benchmarks whose figures are known, finished or not."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import product

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from anomalib_cxr.benchmark.report.measures import compare_systems, measure_runs
from anomalib_cxr.benchmark.report.report import summarize, write_report
from anomalib_cxr.benchmark.report.results import read_results
from anomalib_cxr.errors import CxrError

from ..folders import BenchmarkFolder, drawn_epochs, drawn_exposure, drawn_scores, score_rows

pytestmark = pytest.mark.slow

VOID = {"meta", "link", "img", "br", "hr", "input"}
LABELS = ["normal"] * 4 + ["sick"] * 4
SCORES = score_rows(LABELS, [1.0, 2.0, 3.0, 4.0, 2.5, 3.5, 4.5, 5.5])  # 13 of 16 pairs in order
NOISE = {"class_path": "anomalib_cxr.DetectorNoise", "init_args": {"sigma": 0.1}}


class Page(HTMLParser):
    """What a browser would make of a page: tags that fit, text by section, tables, pictures."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.attributes, self.tags = [], [], []
        self.sections, self.tables = {}, []
        self.section = None
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.section = attrs["id"]
            self.sections[self.section] = ""
        if tag == "table":
            self.tables.append({"section": self.section, "caption": "", "rows": []})
        if tag == "tr":
            self.tables[-1]["rows"].append([])
        if tag in {"th", "td"}:
            self.tables[-1]["rows"][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.section:
            self.sections[self.section] += data
        if "caption" in self.open:
            self.tables[-1]["caption"] += data
        if self.open and self.open[-1] in {"th", "td"}:
            self.tables[-1]["rows"][-1][-1] += data.replace("\N{NO-BREAK SPACE}", " ")

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def table(self, section):
        """Return the first table of a section as rows by their heading."""
        header, *rows = next(table["rows"] for table in self.tables if table["section"] == section)
        return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}


def read_page(written):
    return Page(write_report(written.folder).read_text(encoding="utf-8"))


def images_of(page):
    for attrs in page.all("img"):
        kind, encoded = re.fullmatch(r"data:image/(png|jpeg);base64,(.*)", attrs["src"]).groups()
        yield attrs, Image.open(io.BytesIO(base64.b64decode(encoded)), formats=[kind])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Three systems on two data sets, one with noise added to its test images; one run fails, two are missing."""
    folder = tmp_path_factory.mktemp("finished") / "benchmark"
    systems = {"good": 0.95, "poor": None, "instant": 0.61}
    written = BenchmarkFolder(folder, systems, data={"xrays": {"shifts": {"noisy": NOISE}}, "others": {}}, seeds=(0, 1))
    written.fail("good", "DivergenceError: <not> finite | at all", data="others", seed=1)
    for data, seeds, shifts in (("xrays", (0, 1), ("", "noisy")), ("others", (0,), ("",))):
        for (number, system), seed in product(enumerate(systems), seeds):
            rng = np.random.default_rng([number, seed])
            scores = drawn_scores(rng, [2.0, 0.2, 1.0][number], shifts=shifts)
            epochs = drawn_epochs(rng, scores, *((1, ()) if system == "instant" else (5, (f"l_{system}",))))
            written.done(system, scores, epochs, sheet=True, data=data, seed=seed)
    write_report(folder)
    return written


@pytest.fixture(scope="module")
def page(finished):
    return Page((finished.folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def markdown(finished):
    return (finished.folder / "report.md").read_text(encoding="utf-8")


def aurocs(written, system, data="xrays", **wanted):
    """AUROC of each run, from the files."""
    found = []
    for path in sorted((written.folder / "runs" / data / system).glob("*/scores.csv")):
        table = pd.read_csv(path, keep_default_na=False)
        for column, value in {"subset": "test", "weights": "best", "shift": "", **wanted}.items():
            table = table[table[column] == value]
        found.append(roc_auc_score(table.label == "sick", table.score))
    return found


class TestSelfContained:
    def test_nothing_is_fetched_and_nothing_runs(self, finished, page):
        text = (finished.folder / "report.html").read_text(encoding="utf-8")
        references = [value for _, attrs in page.tags for name, value in attrs.items() if name in {"src", "href"}]
        assert [each[:40] for each in references if not each.startswith(("data:image/", "#"))] == []
        assert {name for name, _ in page.tags} & {"script", "link", "iframe", "object", "base", "form"} == set()
        assert not re.search(r"https?:|url\(|@import|srcset|\bon\w+=", re.sub(r"base64,[^\"]*", "", text))

    def test_links_lead_to_sections(self, page):
        targets = {attrs["href"][1:] for attrs in page.all("a")}
        assert targets == {attrs["id"] for attrs in page.all("section")}
        assert len(targets) == 14

    def test_every_picture_shows_something_and_says_what(self, page):
        shown = list(images_of(page))
        assert len(shown) > 15
        for attrs, picture in shown:
            assert len(attrs["alt"]) > 20
            assert picture.width >= 64
            assert len(set(picture.convert("L").resize((64, 64)).tobytes())) > 1 or "Residual" in attrs["alt"]

    def test_structure_for_those_who_do_not_see_it(self, page):
        assert page.all("html")[0]["lang"] == "en"
        assert len(page.all("h1")) == 1
        assert len(page.all("h2")) == len(page.all("section"))
        assert all(table["caption"] for table in page.tables)
        assert {attrs["scope"] for attrs in page.all("th")} == {"col", "row"}


class TestFigures:
    def test_auroc_by_both_protocols_beside_the_reported_one(self, finished, page):
        row = page.table("auroc")["good"]
        assert row["reported by the dissertation"] == "0.9500"
        assert row["runs"] == "2"
        for column, wanted in (
            ("(b) test, pooled", {}),
            ("(b) test, last epoch", {"weights": "last"}),
            ("(b) test, montgomery", {"source": "montgomery"}),
            ("(a) best epoch on validation", {"subset": "val"}),
        ):
            values = aurocs(finished, "good", **wanted)
            mean, _, span = row[column].split("\n")
            assert mean == f"{np.mean(values):.3f}"
            assert span == f"{min(values):.3f} to {max(values):.3f}"

    def test_a_system_without_a_reported_figure(self, page):
        assert page.table("auroc")["poor"]["reported by the dissertation"] == "-"

    def test_difference_of_a_pair_and_its_corrected_p(self, finished, page):
        difference = np.mean(aurocs(finished, "good")) - np.mean(aurocs(finished, "poor"))
        pairs = page.table("pairs")
        assert pairs["good"]["poor"].split("\n")[0] == f"{difference:+.2f}"
        table = pd.read_csv(finished.folder / "comparisons.csv", keep_default_na=False)
        chosen = table[(table.data == "xrays") & (table.weights == "best") & (table["shift"] == "")]
        p = float(chosen[(chosen["first"] == "good") & (chosen["second"] == "poor")].p_holm.iloc[0])
        assert pairs["poor"]["good"] == ("< 0.001*" if p < 0.001 else f"{p:.3f}{'*' if p < 0.05 else ''}")

    def test_noise(self, finished, page):
        column = "noisy\nGaussian, SD 0.1"
        values = aurocs(finished, "good", shift="noisy")
        assert page.table("noise")["good"][column].split("\n")[0] == f"{np.mean(values):.3f}"

    def test_costs(self, page):
        row = page.table("costs")["good"]
        assert row["training, minutes"] == "1.5"
        assert row["scoring, ms per image"] == "4.00"
        assert row["parameters, millions"] == "1.23"
        assert row["peak memory, MiB"] == "512"

    def test_provenance(self, page):
        for words in ("0123456789abcdef", "torch 2.15.0", "cpu", "12 planned: 9 done, 1 failed, 2 missing"):
            assert words in page.sections["run"]

    def test_how_to_read_it_explains_both_protocols(self, page):
        for name in ("Protocol (a), the dissertation's", "Protocol (b), held-out test"):
            assert name in page.sections["reading"]

    def test_in_short(self, finished, page):
        assert f"good has the highest AUROC: {np.mean(aurocs(finished, 'good')):.3f}" in page.sections["short"]

    def test_failed_and_missing_runs_with_their_reasons(self, page):
        rows = page.table("not-done")
        assert rows["good on others, split 0, seed 1"]["reason"] == "DivergenceError: <not> finite | at all"
        assert rows["poor on others, split 0, seed 1"]["status"] == "missing"
        assert len(rows) == 3

    def test_results_have_a_row_for_each_figure(self, finished):
        table = pd.read_csv(finished.folder / "results.csv", keep_default_na=False)
        wanted = {"data": "xrays", "system": "good", "weights": "best", "protocol": "honest", "shift": ""}
        for column, value in {**wanted, "metric": "auroc", "group": "pooled"}.items():
            table = table[table[column] == value]
        assert table.value.astype(float).tolist() == pytest.approx(aurocs(finished, "good"), abs=1e-6)


class TestSummary:
    """A system that separates all images, and one that separates none."""

    @pytest.fixture
    def sentences(self, benchmark_folder):
        labels, sources = ["normal"] * 40 + ["sick"] * 40, (["east"] * 20 + ["west"] * 20) * 2
        written = benchmark_folder({"perfect": 0.97, "guess": 0.9})
        written.done("perfect", score_rows(labels, np.arange(80.0), sources))
        written.done("guess", score_rows(labels, np.arange(80) * 37 % 80.0, sources))
        results = read_results(written.folder)
        return summarize(results, measure_runs(results), compare_systems(results))

    def test_names_the_best_system(self, sentences):
        assert sentences[0].startswith("On xrays, by protocol (b), perfect has the highest AUROC: 1.000 [")

    def test_counts_the_systems_above_chance(self, sentences):
        assert "1 of 2 systems are above 0.5 with their whole interval: perfect." in sentences

    def test_compares_reported_values(self, sentences):
        sentence = next(sentence for sentence in sentences if sentence.startswith("The reported AUROC values"))
        assert "by -0.030 to +0." in sentence
        assert sentence.endswith("1 of 2 lie within its interval: perfect.")

    def test_counts_the_pairs_that_differ(self, sentences):
        assert "1 of 1 pairs of systems differ, corrected for their number (p < 0.05)." in sentences

    def test_names_the_system_that_separates_hospitals_most(self, sentences):
        start = "The scores of perfect separate hospitals most (west over east): AUROC 1.000 ["
        assert sentences[-1].startswith(start)


class TestMarkdown:
    def test_figures_beside_it_exist(self, finished, markdown):
        links = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", markdown)
        assert len(links) > 10
        for alt, target in links:
            assert alt
            assert Image.open(finished.folder / target).width > 400

    def test_no_other_figures_lie_about(self, finished, markdown):
        linked = set(re.findall(r"\]\(figures/([^)]+)\)", markdown))
        assert {path.name for path in (finished.folder / "figures").iterdir()} == linked

    def test_tables_have_the_same_number_of_cells_in_each_row(self, markdown):
        blocks = re.findall(r"(?:^\|.*\|$\n?)+", markdown, re.MULTILINE)
        assert len(blocks) == 12
        for block in blocks:
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1

    def test_says_the_same_as_the_page(self, page, markdown):
        for row in page.table("auroc").values():
            assert row["(b) test, pooled"].replace("\n", "<br>") in markdown

    def test_patients_stay_in_the_page(self, page, markdown):
        sheets = [attrs for attrs in page.all("img") if attrs["src"].startswith("data:image/jpeg")]
        assert len(sheets) == 6
        assert "may show patients" in page.sections["sheets"]
        assert "Residual sheet of" not in markdown
        assert "report.html only" in markdown


class TestUnusual:
    def test_no_run_at_all(self, benchmark_folder):
        page = read_page(benchmark_folder(["a", "b"]))
        assert "No run is done" in page.sections["short"]
        assert len(page.table("not-done")) == 2
        assert set(page.sections) == {"run", "short", "not-done", "reading"}

    def test_one_system_one_seed_one_hospital(self, benchmark_folder):
        written = benchmark_folder(["a"])
        written.done("a", SCORES)
        page = read_page(written)
        row = page.table("auroc")["a"]
        assert row["(b) test, pooled"].startswith("0.812\n[")
        assert [column for column in row if "hospital" in column] == []
        assert "nothing to compare" in page.sections["pairs"]
        assert "every run is done" in page.sections["not-done"]

    def test_one_class_only(self, benchmark_folder):
        written = benchmark_folder(["a", "b"])
        for system in "ab":
            written.done(system, score_rows(["normal"] * 8, np.arange(8.0)))
        page = read_page(written)
        assert page.table("auroc")["a"]["(b) test, pooled"] == "-\n8 normal and 0 sick images: a ROC curve needs both"
        assert "a ROC curve needs both" in page.table("pairs")["a"]["b"]

    def test_scores_that_are_all_the_same(self, benchmark_folder):
        written = benchmark_folder(["a", "b"])
        for system in "ab":
            written.done(system, score_rows(LABELS, [1.0] * 8))
        page = read_page(written)
        assert page.table("auroc")["a"]["(b) test, pooled"].startswith("0.500")
        assert page.table("pairs")["b"]["a"] == "1.000"

    def test_runs_that_logged_different_things_or_nothing(self, benchmark_folder):
        written = benchmark_folder(["a", "b"], seeds=(0, 1))
        written.done("a", SCORES, pd.DataFrame({"epoch": [0, 1], "l_one": [1.0, 0.5]}), seed=0)
        written.done("a", SCORES, pd.DataFrame({"epoch": [0], "l_two": [1.0]}), seed=1)
        written.done("b", SCORES, pd.DataFrame({"epoch": [0, 1], "val_auroc": [0.5, np.nan]}))
        page = read_page(written)
        alts = [attrs["alt"] for attrs in page.all("img")]
        assert "Values logged by a on xrays against epoch: l_one, l_two." in alts
        assert not any("logged by b" in alt for alt in alts)

    def test_adjusted_for_exposure(self, benchmark_folder):
        written = benchmark_folder(["a", "b"], splits=(0, 1))
        for split in (0, 1):
            scores = drawn_scores(np.random.default_rng(split), sickness=1.0)
            written.done("a", scores, split=split, exposure=drawn_exposure(scores))
            written.done("b", scores, split=split)
        rows = read_page(written).table("auroc")
        table = pd.read_csv(written.folder / "results.csv", keep_default_na=False)
        chosen = (table.metric == "auroc_adjusted") & (table.group == "pooled") & (table.weights == "best")
        values = table.value[chosen].astype(float)
        mean, interval, span = rows["a"]["(b) test, adjusted for exposure"].split("\n")
        assert mean == f"{values.mean():.3f}"
        assert interval.startswith("[")
        assert span == f"{values.min():.3f} to {values.max():.3f}"
        assert rows["b"]["(b) test, adjusted for exposure"] == "-"

    def test_noise_in_training(self, benchmark_folder):
        written = benchmark_folder(["a", "b"], data=("clean", "noisy"))
        for system in "ab":
            written.done(system, SCORES, data="clean")
        config = {"data": {"init_args": {"augmentations": NOISE}}}
        written.done("a", SCORES.assign(score=-SCORES.score), data="noisy", record={"config": config})
        page = read_page(written)
        rows = page.table("noise")
        assert list(rows["a"]) == ["clean\nSD 0", "noisy\nSD 0.1"]
        assert [cell.split("\n")[0] for cell in rows["a"].values()] == ["0.812", "0.188"]
        assert rows["b"]["noisy\nSD 0.1"] == "-"
        assert any(attrs["alt"].startswith("AUROC against the noise of the data") for attrs in page.all("img"))
        assert (written.folder / "figures" / "noise-in-training.png").is_file()

    def test_a_record_without_costs(self, benchmark_folder):
        written = benchmark_folder(["a"])
        absent = dict.fromkeys(["train_seconds", "parameters", "peak_memory_bytes", "n_train", "best_epoch", "device"])
        written.done("a", SCORES, record={**absent, "seconds_per_image": float("nan"), "git": None, "versions": None})
        page = read_page(written)
        assert set(page.table("costs")["a"].values()) == {"-", "3"}
        assert "outside a git checkout" in page.sections["run"]

    def test_names_that_are_markup_are_shown_and_not_obeyed(self, benchmark_folder):
        written = benchmark_folder(["a"], title="<script>alert(1)</script>")
        written.fail("a", "<img src=x onerror=alert(1)>")
        page = read_page(written)
        assert page.all("script") == []
        assert page.all("img") == []

    def test_written_twice_is_the_same(self, benchmark_folder):
        written = benchmark_folder(["a"])
        written.done("a", SCORES)
        write_report(written.folder)
        before = {path: path.read_bytes() for path in written.folder.glob("*.*")}
        (written.folder / "figures" / "of-yesterday.png").write_bytes(b"")
        write_report(written.folder)
        assert {path: path.read_bytes() for path in written.folder.glob("*.*")} == before
        assert not (written.folder / "figures" / "of-yesterday.png").exists()

    def test_another_folder_is_refused_and_left_alone(self, tmp_path):
        with pytest.raises(CxrError, match=r"no benchmark\.yaml"):
            write_report(tmp_path)
        assert list(tmp_path.iterdir()) == []


class TestBrowser:
    @pytest.fixture(scope="class")
    def browser(self):
        found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if found is None:
            pytest.skip("there is no browser")
        return found

    def run(self, browser, *options):
        quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage")
        return subprocess.run(  # noqa: S603  # the browser that was found
            [browser, *quiet, *options], capture_output=True, timeout=120, check=True
        ).stdout

    def test_fits_a_screen_without_scrolling_sideways(self, browser, finished, tmp_path):
        probe = "<script>document.title = document.documentElement.scrollWidth</script>"
        page = tmp_path / "probe.html"
        page.write_text(
            (finished.folder / "report.html").read_text(encoding="utf-8").replace("</body>", f"{probe}</body>")
        )
        dom = self.run(browser, "--window-size=1280,900", "--dump-dom", page.as_uri()).decode()
        assert int(re.search(r"<title>(\d+)</title>", dom)[1]) <= 1280

    def test_is_drawn(self, browser, finished, tmp_path):
        self.run(
            browser,
            "--window-size=1280,2000",
            f"--screenshot={tmp_path / 'page.png'}",
            (finished.folder / "report.html").as_uri(),
        )
        picture = np.asarray(Image.open(tmp_path / "page.png").convert("L"))
        assert picture.shape == (2000, 1280)
        assert 0.005 < (picture < 128).mean() < 0.5

    def test_prints(self, browser, finished, tmp_path):
        self.run(browser, f"--print-to-pdf={tmp_path / 'page.pdf'}", (finished.folder / "report.html").as_uri())
        assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
