"""The page of a search, held against the search's own journal."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from diswot.architecture import Architecture
from diswot.models.init import initialise
from diswot.observe import batch_statistics
from diswot.pages import write_page
from diswot.pages.run_files import RunFiles
from diswot.pages.search_trials import RankedTrials
from diswot.scoring.recipe import prepare_scoring
from diswot.searching.views import Views
from diswot.space import load_space
from tests.report.test_html import Reader
from tests.searching.samples import search_config

pytestmark = pytest.mark.slow  # a search with its page takes some ten seconds


@pytest.fixture
def run(searched: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(searched, tmp_path / "run"))


def journal(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]


def test_the_page_shows_what_the_search_came_to(searched: Path) -> None:
    reader = Reader((searched / "report.html").read_text())
    result = json.loads((searched / "result.json").read_text())
    assert reader.open == [] and reader.text["h1"] == ["A student for resnet8"]
    assert reader.text["h2"][:3] == ["The finalists", "How it was found", "What a rank costs"] and reader.text["h2"][-1] == "To repeat it"
    roles = [text for text in reader.text["th"] if text in {row["role"] for row in result["table"]} | {"teacher"}]
    assert roles == [*(row["role"] for row in result["table"]), "teacher"]
    points = [text for text in reader.text["li"] if text.strip()]
    assert points == [f"{line[0].upper()}{line[1:]}." for line in result["remarks"]]
    candidates = [text for text in reader.text["title"] if text.startswith("candidate ")]
    assert len(candidates) == 3 * len(journal(searched))  # in the charts of progress, parameters and FLOPs


def test_ranks_and_the_best_so_far_are_those_of_the_journal(searched: Path) -> None:
    """Two proxies by the mean of their ranks, written out."""
    records = journal(searched)
    scores = {name: [statistics.fmean(record["scores"][name]) for record in records] for name in records[0]["scores"]}  # type: ignore[index,attr-defined,arg-type]

    def rank(values: list[float], value: float) -> float:
        return sum(other < value for other in values) + (1 + sum(other == value for other in values)) / 2

    fitness = [sum(rank(values, values[index]) for values in scores.values()) for index in range(len(records))]
    expected = [1 + sum(other > value + 1e-9 for other in fitness) for value in fitness]
    with open(searched / "report" / "progress.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["rank"]) for row in rows] == expected
    assert [int(row["best"]) for row in rows] == list(itertools.accumulate(expected, min))


def test_the_maps_are_grad_cam_by_automatic_differentiation(searched: Path) -> None:
    views = Views.load(searched)
    assert views is not None
    config = search_config(space="resnet_depth")
    space = load_space(config.space)
    _, context = prepare_scoring(config, "cpu", space)
    batch = context.batches[0]
    winner = json.loads((searched / "result.json").read_text())["winner"]
    model = space.build(Architecture(winner["space"], winner["choices"]), 10, 3)
    initialise(model, config.init, batch.seed)
    with batch_statistics(model):
        features = model.forward_features(batch.images)  # type: ignore[operator]
        features.retain_grad()
        logits = model.forward_head(features)  # type: ignore[operator]
        logits[torch.arange(len(batch.target)), batch.target].sum().backward()
    weights = features.grad.mean((2, 3), keepdim=True) * features.shape[2] * features.shape[3]
    expected = (weights * features).sum(1).detach()
    order = [batch.target.tolist().index(label) for label in views.labels.tolist()]
    assert np.allclose(views.winner_maps, expected[order], atol=1e-4)
    flat = features.detach().flatten(1)
    gram = torch.stack([torch.stack([a @ b for b in flat]) for a in flat])
    by_class = torch.argsort(batch.target, stable=True)
    assert np.allclose(views.winner_relations, normalize(gram.flatten(), dim=0).view_as(gram)[by_class][:, by_class], atol=1e-5)
    assert views.images.shape == (len(order), 32, 32, 3) and views.blocks[-1].tolist() == list(features.shape[1:])


def test_a_search_under_way_has_a_page(run: Path) -> None:
    lines = (run / "trials.jsonl").read_text().splitlines(keepends=True)
    (run / "trials.jsonl").write_text("".join(lines[:10]) + lines[10][:20])
    for name in ("result.json", "views.npz", "arch.json"):
        (run / name).unlink()
    reader = Reader(write_page(run).read_text())
    (verdict,) = [text for text in reader.text["p"] if "not at its end" in text]
    assert "10 of 24 candidates" in verdict and "The finalists" not in reader.text["h2"]
    assert (run / "trials.jsonl").read_text().endswith(lines[10][:20]), "a page changes nothing"


def test_a_front_the_choices_it_settled_on_and_trained_finalists_are_shown(run: Path) -> None:
    """Of a search that had them, as its result names them."""
    result = json.loads((run / "result.json").read_text())
    member = {**result["winner"], "flops": 10, "depth": 3, "latency_ms": 1.25, "score": 0.5}
    result["front"] = [{**member, "params": 1000 * number, "knee": number == 2} for number in (1, 2, 3)]
    result["settled"] = [{"place": "depths[0]", "value": 4, "at_bound": "largest", "early": 0.25, "late": 0.93}]
    for number, row in enumerate(result["table"]):
        row["trained"] = {"epochs": 2, "top1": 50.0 + number}
    (run / "result.json").write_text(json.dumps(result))
    reader = Reader(write_page(run).read_text())
    cells = [text.strip() for text in reader.text["td"]]
    assert [text for text in cells if text in ("1,000", "2,000", "3,000")] == ["1,000", "2,000", "3,000"]
    assert cells.count("knee, the winner") == 1 and cells.count("1.25") == 3
    assert {"largest", "25", "93"} <= set(cells) and any("may reward more of it" in text for text in reader.text["p"])
    best = result["table"][-1]
    assert any(f"the {best['role']} network reached most: {best['trained']['top1']:.2f} %" in text for text in reader.text["p"])


def test_without_a_single_score_the_page_says_so(run: Path) -> None:
    (run / "trials.jsonl").write_text("")
    (run / "result.json").unlink()
    assert "No candidate has a score yet." in write_page(run).read_text()


def test_views_that_cannot_be_read_are_left_out(run: Path) -> None:
    (run / "views.npz").write_bytes(b"PK\x03\x04 nothing")
    text = write_page(run).read_text()
    assert "Grad-CAM" not in text and "The finalists" in text


def test_points_that_have_no_room_are_left_out_but_never_the_best(searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diswot.pages.search_trials._MOST_DRAWN", 12)
    monkeypatch.setattr("diswot.pages.search_trials._BEST_DRAWN", 5)
    ranked = RankedTrials.read(RunFiles(searched))
    drawn = ranked.drawn()
    assert len(drawn) == 12 and set(np.argsort(ranked.rank, kind="stable")[:5]) <= set(drawn) and (np.diff(drawn) > 0).all()
