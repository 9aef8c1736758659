"""Draws the measured figures as SVG, small and the same for the same figures."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tests.bench.claims import CLAIM_CASES
from tests.bench.measures import FIGURES
from tests.bench.report import PLOTS, Results, median, number

OURS, PEER = "#1f6feb", "#9aa4b2"

# Text stays text, and ids do not change from run to run, so that a diff shows what changed.
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "workerjobs", "font.size": 10})


def draw(results: Results, folder: Path) -> list[Path]:
    """Write one plot per measure that was made, and one of the claims; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for measure, name in PLOTS.items():
        if any(values.get(name) for values in results.samples.values()):
            files.append(_bars(results, name, folder / f"{measure}.svg"))
    if results.claims:
        files.append(_claims(results, folder / "claims.svg"))
    return files


def _bars(results: Results, name: str, file: Path) -> Path:
    figure = FIGURES[name]
    found = [(queue, results.samples[queue.name][name]) for queue in results.queues if _has(results, queue.name, name)]
    found.sort(key=lambda pair: median(pair[1]), reverse=not figure.more_is_better)
    axes_height = 0.9 + 0.36 * len(found)
    drawing, axes = plt.subplots(figsize=(8, axes_height), layout="constrained")
    middles = [median(values) for _, values in found]
    spread = [
        [middle - min(values) for middle, (_, values) in zip(middles, found, strict=True)],
        [max(values) - middle for middle, (_, values) in zip(middles, found, strict=True)],
    ]
    bars = axes.barh(
        [queue.name for queue, _ in found],
        middles,
        color=[OURS if queue.is_ours else PEER for queue, _ in found],
        xerr=spread,
        error_kw={"lw": 1, "ecolor": "#444"},
    )
    axes.bar_label(bars, [number(middle, figure) for middle in middles], padding=6)
    axes.margins(x=0.12)
    better = "more" if figure.more_is_better else "less"
    axes.set_title(f"{figure.title}, {figure.unit} ({better} is better)", loc="left")
    return _save(drawing, file)


def _has(results: Results, queue: str, name: str) -> bool:
    return bool(results.samples.get(queue, {}).get(name))


def _claims(results: Results, file: Path) -> Path:
    versions = list(dict.fromkeys(cost.postgres for cost in results.claims))
    drawing, every = plt.subplots(1, len(versions), figsize=(8, 3.6), layout="constrained", sharey=True, squeeze=False)
    for axes, version in zip(every[0], versions, strict=True):
        for case, title in CLAIM_CASES.items():
            costs = [cost for cost in results.claims if (cost.postgres, cost.case) == (version, case)]
            if costs:
                labels = [f"{cost.finished:,}\n{cost.pending:,}" for cost in costs]
                axes.plot(labels, [cost.milliseconds for cost in costs], marker="o", label=title)
        axes.set_title(f"Claim of 10 rows, ms, Postgres {version}", loc="left")
        axes.set_xlabel("rows: finished, then pending")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8)
        axes.tick_params(axis="x", labelsize=7)
    return _save(drawing, file)


def _save(drawing: Figure, file: Path) -> Path:
    for each in drawing.axes:
        each.spines[["top", "right"]].set_visible(False)
    # The date would make every run another file.
    drawing.savefig(file, metadata={"Date": None})
    plt.close(drawing)
    return file
