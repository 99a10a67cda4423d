"""The report: keys that do not change, a page that needs nothing else, files that appear whole."""

import datetime as dt
import io
import json
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import fsspec
import numpy as np
import pytest
from rich.console import Console

from esmm import report
from esmm.agreement import Agreement
from esmm.config import Config
from esmm.evaluation import Evaluation
from esmm.metrics import CoarseMetrics, Metrics, Result, TaskMetrics
from esmm.segments import Segment

ROOT = Path(__file__).resolve().parent.parent
DAY = dt.date(2026, 4, 1)


@pytest.fixture(scope="module")
def full() -> Evaluation:
    """An evaluation with both yardsticks, segments and a calibrated model."""
    rng = np.random.default_rng(0)
    pctr, pcvr = rng.random((2, 4_000)) * 0.4
    click = rng.random(4_000) < pctr
    purchase = click & (rng.random(4_000) < pcvr)
    model, truth, popularity, agreement = Metrics(), Metrics(), TaskMetrics(), Agreement()
    model.update(click, purchase, np.ones(4_000), pctr * 0.8, pcvr, pctr * 0.8 * pcvr)
    truth.update(click, purchase, np.ones(4_000), pctr, pcvr, pctr * pcvr)
    popularity.update(click, np.ones(4_000), np.full(4_000, 0.2))
    agreement.update(np.ones(4_000), pcvr, pcvr)
    days = tuple(DAY - dt.timedelta(days=n) for n in (3, 2, 1))
    nightly = Metrics()
    nightly.update(click, purchase, np.ones(4_000), rng.permutation(pctr), pcvr, pctr * pcvr)
    gauc = {
        "ctr": {"gauc": 0.6789, "users": 1_234, "share_of_weight": 0.955},
        "cvr": {"gauc": 0.5678, "users": 12, "share_of_weight": 0.25},
        "ctcvr": {"gauc": 0.6543, "users": 34, "share_of_weight": 0.5},
    }
    hours = [Segment(str(hour), CoarseMetrics()) for hour in range(24)]
    for hour in hours:
        hour.metrics.update(click, purchase, np.ones(4_000), pctr, pcvr, pctr * pcvr)
    calibration = {"knots": {"ctr": 9, "ctcvr": 3}, "before": model.result(), "after": truth.result()}
    return Evaluation("demo", "v7", (DAY,), days, model, gauc, popularity, truth, agreement, nightly,
                      {"hour": hours, "device": [Segment("<phone>", CoarseMetrics())]}, calibration)  # fmt: skip


@pytest.fixture(scope="module")
def bare() -> Evaluation:
    """Two rows without a click, and no yardstick."""
    model = Metrics()
    model.update([0, 0], [0, 0], [1, 1], [0.1, 0.2], [0.1, 0.2], [0.01, 0.04])
    nobody = {"gauc": None, "users": 0, "share_of_weight": 0.0}
    gauc = {"ctr": nobody, "cvr": nobody | {"share_of_weight": None}, "ctcvr": nobody}
    return Evaluation(
        "demo", "v7", (DAY, DAY + dt.timedelta(days=1)), (), model, gauc, None, None, None, None
    )


def test_the_keys_are_stable(full: Evaluation, bare: Evaluation) -> None:
    of_task = {
        "rows",
        "weight",
        "auc",
        "log_loss",
        "accuracy",
        "pcoc",
        "ece",
        "mean_prediction",
        "mean_label",
    }
    for evaluation in (full, bare):
        found = report.as_dict(evaluation)
        assert list(found) == [
            "name", "model", "days", "popularity_days", "rows", "ctr", "cvr", "ctcvr", "gauc", "pcvr_all_rows",
            "nightly", "calibration", "curves", "segments", "baselines",
        ]  # fmt: skip
        assert all(set(found[task]) == of_task for task in ("ctr", "cvr", "ctcvr"))
        of_users = {"gauc", "users", "share_of_weight"}
        assert all(set(found["gauc"][task]) == of_users for task in ("ctr", "cvr", "ctcvr"))
        assert list(found["baselines"]) == ["popularity", "truth"]
        for curves in found["curves"].values():
            assert list(curves) == ["roc", "spans", "tenths"]
    found = report.as_dict(full)
    for curves in found["curves"].values():
        assert all(
            set(span) == {"low", "high", "weight", "mean_prediction", "mean_label"}
            for span in curves["spans"]
        )
        of_tenth = {"weight", "mean_prediction", "mean_label", "lift", "share", "gain"}
        assert [set(tenth) for tenth in curves["tenths"]] == [of_tenth] * 10
        assert (curves["roc"][0], curves["roc"][-1]) == ([0, 0], [1, 1])
    assert [hour["value"] for hour in found["segments"]["hour"]] == [str(hour) for hour in range(24)]
    assert all(set(found["segments"]["hour"][5][task]) == of_task for task in ("ctr", "cvr", "ctcvr"))
    assert found["calibration"]["knots"] == {"ctr": 9, "ctcvr": 3}
    assert (found["model"], found["days"], found["popularity_days"][0]) == (
        "v7",
        ["2026-04-01"],
        "2026-03-29",
    )
    assert found["rows"] == 4_000
    assert set(found["baselines"]["popularity"]) == {"ctr"}
    assert found["baselines"]["popularity"]["ctr"]["auc"] == 0.5
    assert set(found["baselines"]["truth"]) == {"ctr", "cvr", "ctcvr"}
    assert found["pcvr_all_rows"]["correlation"] == pytest.approx(1)
    assert all(set(found["nightly"][task]) == of_task for task in ("ctr", "cvr", "ctcvr"))
    found = report.as_dict(bare)
    assert found["baselines"] == {"popularity": None, "truth": None}
    assert found["pcvr_all_rows"] is None
    assert found["nightly"] is None
    assert (found["calibration"], found["segments"], found["curves"]["cvr"]["roc"]) == (None, {}, [])


def test_the_lines_of_aucs(full: Evaluation, bare: Evaluation) -> None:
    patterns = [
        r"CTR AUC 0\.\d{4}",
        r"CVR AUC 0\.\d{4} \(clicked\)",
        r"CTCVR AUC 0\.\d{4}",
        r"Item popularity CTR AUC 0\.5000",
        r"CTR GAUC 0\.6789 by user \(1,234 users, 96% of the weight\)",
        r"CVR GAUC 0\.5678 by user \(12 users, 25% of the weight\)",
        r"CTCVR GAUC 0\.6543 by user \(34 users, 50% of the weight\)",
        r"CTR AUC 0\.\d{4} with lists as of the day's start",
        r"CVR AUC 0\.\d{4} \(clicked\) with lists as of the day's start",
        r"CTCVR AUC 0\.\d{4} with lists as of the day's start",
    ]
    lines = report.auc_lines(full)
    assert len(lines) == len(patterns)
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(pattern, line)
    assert report.auc_lines(bare) == [
        "CTR AUC not defined: it takes rows of both labels",
        "CVR AUC not defined (clicked): it takes rows of both labels",
        "CTCVR AUC not defined: it takes rows of both labels",
        "CTR GAUC not defined: it takes users with rows of both labels",
        "CVR GAUC not defined: it takes users with rows of both labels",
        "CTCVR GAUC not defined: it takes users with rows of both labels",
    ]


def test_the_table_fits_a_terminal(full: Evaluation, bare: Evaluation) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(report.table(full))
    console.print(report.table(bare))
    text = console.export_text()
    assert "…" not in text
    assert f"{report.as_dict(full)['ctr']['auc']:.4f}" in text
    assert re.search(r"CTR +2 +– ", text)


class _Page(HTMLParser):
    """Which tags are opened and not closed, and what they point to."""

    VOID = ("meta", "br", "hr", "img", "link", "input")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href") and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(full: Evaluation, bare: Evaluation) -> None:
    for evaluation in (full, bare):
        text = report.html(evaluation)
        page = _Page(text)
        assert page.open == []
        assert not page.tags & {"script", "link", "img", "iframe"}
        assert all(address.startswith("#") for address in page.addresses)
        assert "url(http" not in text
        assert "@import" not in text
    text = report.html(full)
    assert len(text.encode()) < 250_000
    # Three pictures a task: its ROC curve, its rates and its lift.
    assert text.count("<svg") == 9
    assert len(set(re.findall(r'<svg role="img" aria-label="([^"]+)"', text))) == 9
    assert "#0" not in re.sub(r"&#\d+;", "", text[text.index("<svg") :]), "no colour but the page's"
    assert text.count("grey: true probabilities") == 3
    assert "grey: true" not in report.html(replace(full, truth=None))
    assert f"{report.as_dict(full)['nightly']['ctr']['auc']:.4f}" in report.html(full)
    assert "as of the day's start" not in report.html(bare)
    assert f"{report.as_dict(full)['ctcvr']['auc']:.4f}" in report.html(full)
    assert report.html(bare).count("<svg") == 0
    assert "not defined: it takes rows of both labels" in report.html(bare)


def test_the_page_tells_of_segments_and_calibration_where_there_are_any(
    full: Evaluation, bare: Evaluation
) -> None:
    page, plain = report.html(full), report.html(bare)
    assert page.count('<tr><th scope="row">23</th><td>4,000</td>') == 1
    assert '<tr><th scope="row">&lt;phone&gt;</th><td>0</td>' in page
    for heading in ("<h2>By segment</h2>", "<h2>Calibration</h2>"):
        assert heading in page
        assert heading not in plain
    before = report.as_dict(full)["calibration"]["before"]["ctcvr"]
    assert f"<td>{before['pcoc']:.3f}</td><td>{before['ece']:.5f}</td>" in page


@pytest.mark.parametrize(
    ("weight", "rate", "pcoc", "expected"),
    [(1_000, 0.1, 1.21, False), (1_000, 0.1, 1.23, True), (1_000, 0.1, 1 / 1.23, True), (100, 0.04, 2.7, False),
     (1_000, 0.0, None, False), (0, None, None, False), (1_000, 0.1, 0.0, False)],
)  # fmt: skip
def test_a_pcoc_is_off_where_it_is_two_standard_errors_from_1(
    weight: float, rate: float | None, pcoc: float | None, expected: bool
) -> None:
    """With 100 positive rows, e^(2/10) = 1.22."""
    result: Result = {"weight": weight, "mean_label": rate, "pcoc": pcoc}
    assert report._is_off(result) is expected


def test_the_page_is_the_same_for_the_same_evaluation(full: Evaluation) -> None:
    assert report.html(full) == report.html(full)


def test_what_comes_from_outside_is_escaped(full: Evaluation) -> None:
    page = report.html(replace(full, model="<script>alert(1)</script>"))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("protocol", ["", "memory:/"])
def test_both_files_are_written_whole(
    full: Evaluation, config: Config, tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = f"{protocol}{tmp_path}/out"
    config = config.model_copy(
        update={"evaluation": config.evaluation.model_copy(update={"directory": directory})}
    )
    assert report.write(config, full) == f"{directory}/evaluation.html"
    fs, path = fsspec.core.url_to_fs(directory)
    assert json.loads(fs.cat_file(f"{path}/evaluation.json")) == report.as_dict(full)
    assert fs.cat_file(f"{path}/evaluation.html").decode() == report.html(full)
    assert {name.rpartition("/")[2] for name in fs.ls(path, detail=False)} == {
        "evaluation.json",
        "evaluation.html",
    }

    # A page that cannot be made leaves both files as they were.
    monkeypatch.setattr(report, "html", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write(config, replace(full, model="v8"))
    assert json.loads(fs.cat_file(f"{path}/evaluation.json"))["model"] == "v7"


def test_the_template_is_found_in_a_zip(tmp_path: Path) -> None:
    """As a cluster's job has the package: in the zip of --py-files, without a checkout."""
    with zipfile.ZipFile(tmp_path / "esmm.zip", "w") as archive:
        for path in [*(ROOT / "esmm").rglob("*.py"), *(ROOT / "esmm").rglob("*.j2")]:
            archive.write(path, path.relative_to(ROOT))
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'esmm.zip')!r})\n"
        "import datetime as dt, esmm.report as report\n"
        "from esmm.evaluation import Evaluation\n"
        "from esmm.metrics import TASKS, Metrics\n"
        "assert '.zip' in report.__file__\n"
        "day = dt.date(2026, 4, 1)\n"
        "gauc = dict.fromkeys(TASKS, {'gauc': None, 'users': 0, 'share_of_weight': None})\n"
        "found = Evaluation('demo', 'v7', (day,), (), Metrics(), gauc, None, None, None, None)\n"
        "sys.stdout.write(report.html(found))\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("<!doctype html>")
