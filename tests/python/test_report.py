"""The report on a real evaluation: what it says, that it stands alone, and what it does with odd input."""

import copy
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from eval_examples import write_metrics
from tiny_checkpoint import write_tiny_checkpoint

import offline_eval
import report
from ur10e_act.errors import UserError
from ur10e_act.evaluation.charts import format_number

VOID = {"meta", "br", "hr", "img", "link", "input"}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, sample_root) -> Path:
    folder = tmp_path_factory.mktemp("report")
    trained = write_tiny_checkpoint(folder / "train", sample_root)
    arguments = [
        "--checkpoint",
        str(trained),
        "--dataset",
        str(sample_root),
        "--output",
        str(folder / "eval"),
    ]
    offline_eval.run([*arguments, "--device", "cpu", "--num-steps", "30"])
    return folder / "eval"


@pytest.fixture
def train_dir(tmp_path) -> Path:
    return write_metrics(tmp_path / "train")


@pytest.fixture
def summary(evaluated) -> dict:
    return json.loads((evaluated / "summary.json").read_text())


def make(eval_dir: Path, output: Path, *more: str) -> str:
    assert report.run(["--eval", str(eval_dir), "--output", str(output), *map(str, more)]) == 0
    return output.read_text(encoding="utf-8")


def changed(evaluated: Path, folder: Path, summary: dict) -> Path:
    """The evaluation's output with another summary."""
    shutil.copytree(evaluated, folder)
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


class Page(HTMLParser):
    """Reads a page, and fails where tags do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_page_is_well_formed_and_needs_nothing_else(evaluated, train_dir, tmp_path):
    html = make(evaluated, tmp_path / "report.html", "--train", train_dir)
    page = Page(html)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed"}
    for _, attributes in page.tags:
        assert not {"src", "href", "srcset"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"https?://|@import|url\(", html)
    for svg in re.findall(r"<svg.*?</svg>", html):
        ElementTree.fromstring(svg)
    # Loss, validation error, error by offset, two episodes of seven joints, distribution, latency.
    assert sum(tag == "svg" and attributes.get("role") == "img" for tag, attributes in page.tags) == 5 + 14


def test_same_input_gives_the_same_bytes(evaluated, train_dir, tmp_path):
    first = make(evaluated, tmp_path / "a.html", "--train", train_dir)
    assert make(evaluated, tmp_path / "b.html", "--train", train_dir) == first


def test_page_and_terminal_say_the_figures(evaluated, train_dir, summary, tmp_path, capsys):
    page = Page(make(evaluated, tmp_path / "report.html", "--train", train_dir))
    printed = capsys.readouterr().out
    assert printed.strip().splitlines()[-1] == f"report: {tmp_path / 'report.html'}"
    table = pq.read_table(evaluated / "all_episodes.parquet")
    for joint in summary["joints"]:
        figures = [
            summary["mae"]["per_joint"][joint],
            summary["mae"]["baselines"]["hold_position"]["per_joint"][joint],
            summary["mae"]["baselines"]["mean_action"]["per_joint"][joint],
            np.percentile(table.column(f"abs_error_{joint}").to_numpy(), 95),
            summary["chunk_mae"]["per_joint"][joint],
            summary["chunk_mae"]["baselines"]["hold_position"]["per_joint"][joint],
            summary["chunk_mae"]["baselines"]["mean_action"]["per_joint"][joint],
        ]
        texts = [format_number(figure) for figure in figures]
        assert f"{joint} {' '.join(texts)}" in page.text
        line = next(line for line in printed.splitlines() if line.startswith(joint))
        assert line.replace("|", " ").split()[1:8] == texts
    for text in (
        summary["checkpoint"]["fingerprint"],
        summary["dataset"]["fingerprint"],
        summary["checkpoint"]["path"],
        "pretrained_backbone_weights: null",
        f"p99 {format_number(summary['latency_ms']['p99'])} ms",
        "Training never saw the 2 episodes (60 frames).",
        "4.0× lower error by training Validation error over the chunk: 0.800 at step 0, 0.200 at step 40",
        "logged to step 40, median 100 samples/s",
    ):
        assert text in page.text, text


def test_evaluation_alone_makes_a_page_without_training(evaluated, tmp_path):
    page = Page(make(evaluated, tmp_path / "report.html"))
    assert "by training" not in page.text
    assert "optimizer step" not in page.text
    assert "How long a chunk can be trusted" in page.text


@pytest.mark.parametrize(
    ("hold", "headline", "lead"),
    [
        (0.625, "2.5× better than holding still", "2.5 times closer to the demonstration than holding still"),
        (None, "Holding still: cannot be said", "off by 0.250 on average"),
    ],
)
def test_verdict_on_holding_is_on_the_page(evaluated, summary, tmp_path, hold, headline, lead):
    summary["chunk_mae"]["overall"] = 0.25
    summary["chunk_mae"]["baselines"]["hold_position"]["overall"] = hold
    if hold is None:
        by_joint = dict.fromkeys(summary["joints"])
        for kind in ("mae", "chunk_mae"):
            summary[kind]["baselines"]["hold_position"] = {"overall": None, "per_joint": by_joint}
        offsets = summary["chunk_mae"]["by_offset"]
        offsets["hold_position"] = [None] * len(offsets["offset"])
    page = Page(make(changed(evaluated, tmp_path / "eval", summary), tmp_path / "report.html"))
    assert headline in page.text
    assert lead in page.text


def test_ablation_is_announced(evaluated, summary, tmp_path):
    assert "Ablation" not in make(evaluated, tmp_path / "a.html")
    summary["blackout_images"] = True
    page = Page(make(changed(evaluated, tmp_path / "eval", summary), tmp_path / "b.html"))
    assert "Ablation: every camera image was blacked out." in page.text


def test_offsets_that_no_frame_reaches_are_left_out(evaluated, summary, tmp_path):
    offsets = summary["chunk_mae"]["by_offset"]
    for name in ("policy", "hold_position", "mean_action"):
        offsets[name][5:] = [None] * 3
    offsets["frames"][5:] = [0] * 3
    page = Page(make(changed(evaluated, tmp_path / "eval", summary), tmp_path / "report.html"))
    assert "The last 3 steps of the chunk lie beyond every evaluated episode's end." in page.text
    assert "at step 5 (0.17 s ahead)" in page.text


def test_mean_action_may_be_unknown(evaluated, summary, tmp_path):
    by_joint = dict.fromkeys(summary["joints"])
    for kind in ("mae", "chunk_mae"):
        summary[kind]["baselines"]["mean_action"] = {"overall": None, "per_joint": by_joint}
    offsets = summary["chunk_mae"]["by_offset"]
    offsets["mean_action"] = [None] * len(offsets["offset"])
    html = make(changed(evaluated, tmp_path / "eval", summary), tmp_path / "report.html")
    assert '<path class="line mean"' not in html
    assert '<path class="line hold"' in html


def test_names_from_datasets_are_escaped(evaluated, summary, tmp_path):
    joint, evil = "elbow", "</svg><script>alert('&')</script>.pos"
    text = json.dumps(summary).replace(json.dumps(joint), json.dumps(evil))
    folder = changed(evaluated, tmp_path / "eval", json.loads(text))
    info = json.loads(text)
    info["dataset"]["robot_type"] = "<i>robot</i>"
    (folder / "summary.json").write_text(json.dumps(info))
    for path in folder.glob("*.parquet"):
        table = pq.read_table(path)
        names = [name.replace(f"_{joint}", f"_{evil}") for name in table.column_names]
        pq.write_table(pa.table(table.columns, names=names), path)
    html = make(folder, tmp_path / "report.html")
    assert "<script" not in html
    assert "<i>" not in html
    assert escape(evil) in html
    assert evil in Page(html).text


def test_one_frame_of_one_episode_makes_a_page(evaluated, summary, tmp_path):
    only = summary["episodes"][0]
    summary.update(episodes=[only], num_episodes=1, num_frames=1, per_episode=[summary["per_episode"][0]])
    summary["latency_ms"]["samples"] = [summary["latency_ms"]["p50"]]
    folder = changed(evaluated, tmp_path / "eval", summary)
    for name in (f"episode_{only:03d}.parquet", "all_episodes.parquet"):
        pq.write_table(pq.read_table(folder / name).slice(0, 1), folder / name)
    assert "on 1 recorded episode, 1 frames" in Page(make(folder, tmp_path / "report.html")).text


def test_diverged_training_makes_a_page(evaluated, tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    records = [{"type": "val", "step": 0, "val_l1": 0.9, "val_mae": 0.8}]
    records += [{"type": "train", "step": 10, "l1_loss": float("nan")}]
    records += [{"type": "val", "step": 10, "val_l1": float("nan"), "val_mae": float("nan")}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    page = Page(make(evaluated, tmp_path / "report.html", "--train", folder))
    assert "Training did not lower the error" in page.text
    assert not re.search(r"\bnan\b", page.text)


def test_incomplete_or_foreign_folders_are_named(evaluated, summary, tmp_path):
    output = tmp_path / "report.html"
    output.write_text("earlier")

    def refused(folder: Path, message: str, *more: str) -> None:
        with pytest.raises(UserError, match=message):
            make(folder, output, *more)
        assert output.read_text() == "earlier"

    refused(
        tmp_path / "none", r"none/summary.json: not found; is .* the output of a finished offline_eval.py"
    )
    refused(
        evaluated,
        r"nowhere/metrics.jsonl: cannot be read .*leave out --train",
        "--train",
        tmp_path / "nowhere",
    )
    without = copy.deepcopy(summary)
    del without["realtime"]
    refused(
        changed(evaluated, tmp_path / "a", without),
        "summary.json: has no 'realtime'; run offline_eval.py again",
    )
    lacking = changed(evaluated, tmp_path / "b", summary)
    (lacking / "episode_004.parquet").unlink()
    refused(lacking, r"episode_004.parquet.*run offline_eval.py again")
    cut = changed(evaluated, tmp_path / "c", summary)
    (cut / "all_episodes.parquet").write_bytes((cut / "all_episodes.parquet").read_bytes()[:1000])
    refused(cut, r"c: .*run offline_eval.py again")
    (cut / "summary.json").write_text("{")
    refused(cut, r"summary.json: cannot be read")


def test_output_that_cannot_be_written_is_named(evaluated, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--output .*report.html: cannot be written"):
        make(evaluated, tmp_path / "file" / "report.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
