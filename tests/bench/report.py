"""Turns measured figures into docs/benchmarks.md: medians, ratios to the best peer, versions, the machine."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tests.bench.claims import CLAIM_CASES, ClaimCost
from tests.bench.measures import FIGURES, Figure

Samples = Mapping[str, Mapping[str, Sequence[float]]]
"""Queue name to figure name to one value per repetition."""


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue's line in the list of what was compared."""

    name: str
    runs: str
    settings: str
    is_ours: bool


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the figures come from."""

    cpu: str
    cores: int
    memory_bytes: int
    system: str
    load: float
    """Load average of the last minute before the first measurement."""


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that a run of `make bench` found out."""

    moment: datetime
    machine: Machine
    postgres: str
    postgres_settings: Mapping[str, str]
    repetitions: int
    counts: Mapping[str, float]
    queues: Sequence[Queue]
    samples: Samples
    left_out: Mapping[str, str]
    """Name, with the measure where it is only about one, to the reason."""
    claims: Sequence[ClaimCost] = field(default_factory=list)


def median(values: Sequence[float]) -> float:
    """Give the median; NaN of nothing."""
    return statistics.median(values) if values else math.nan


def best_peer(results: Results, name: str) -> tuple[str, float] | None:
    """Find the peer with the best median of a figure; None where no peer has it."""
    figure = FIGURES[name]
    found = [
        (queue.name, median(values))
        for queue in results.queues
        if not queue.is_ours and (values := results.samples.get(queue.name, {}).get(name))
    ]
    if not found:
        return None
    choose = max if figure.more_is_better else min
    return choose(found, key=lambda pair: pair[1])


def ratio(ours: float, peer: float) -> str:
    """Say ours in relation to a peer's, as "1.25×"; "–" where there is nothing to compare."""
    if not (math.isfinite(ours) and math.isfinite(peer)) or peer <= 0:
        return "–"
    return f"{ours / peer:.2f}×"


def number(value: float, figure: Figure) -> str:
    """Write a value with the figure's digits; "–" where there is none."""
    return f"{value:,.{figure.digits}f}" if math.isfinite(value) else "–"


def figures_measured(results: Results) -> list[str]:
    """Name the figures that at least one queue has, in the report's order."""
    return [name for name in FIGURES if any(each.get(name) for each in results.samples.values())]


def markdown(results: Results, beside: Sequence[str] = ()) -> str:
    """Write the page.

    Args:
        results: Of this run.
        beside: Sections that other benchmarks wrote.
    """
    return (
        "\n\n".join(
            [
                "# Benchmarks",
                "Written by `make bench`, which measures all queues one after another on one throw-away Postgres, and "
                "reproduces this page. [How it is measured](#how-it-is-measured) is below.",
                _where(results),
                "## Results",
                f"Medians of {results.repetitions} repetitions; in parentheses the lowest and the highest.",
                *[_section(results, measure) for measure in _measures(results)],
                *([_claims(results)] if results.claims else []),
                *beside,
                "## What was compared",
                _compared(results),
                *([_left_out(results)] if results.left_out else []),
                _HOW.strip(),
            ]
        )
        + "\n"
    )


def written_by_others(page: str) -> str:
    """The end of a page that `make bench` measures nothing of, as it stands."""
    _, heading, rest = page.partition("\n## What limits ours\n")
    return heading + rest


def _measures(results: Results) -> list[str]:
    return list(dict.fromkeys(FIGURES[name].measure for name in figures_measured(results)))


_TITLES = {
    "insert": "Bulk insert",
    "drain": "Drain of no-op jobs",
    "pickup": "Pickup",
    "cpu": "CPU-bound jobs",
    "idle": "An idle worker",
}
PLOTS = {
    "insert": "insert_rate",
    "drain": "drain_rate",
    "pickup": "pickup_p50",
    "cpu": "cpu_share",
    "idle": "idle_memory",
}
"""The figure that each measure's plot shows; its file is benchmarks/<measure>.svg."""


def _section(results: Results, measure: str) -> str:
    names = [name for name in figures_measured(results) if FIGURES[name].measure == measure]
    heads = ["", *[f"{FIGURES[name].title}, {FIGURES[name].unit}" for name in names]]
    rows = []
    for queue in results.queues:
        values = results.samples.get(queue.name, {})
        if any(values.get(name) for name in names):
            label = f"**{queue.name}**" if queue.is_ours else queue.name
            rows.append([label, *[_cell(values.get(name, ()), FIGURES[name]) for name in names]])
    rows += [
        [f"*{queue.name}, of the best peer*", *[_against(results, queue, name) for name in names]]
        for queue in results.queues
        if queue.is_ours and any(results.samples.get(queue.name, {}).get(name) for name in names)
    ]
    return f"### {_TITLES[measure]}\n\n{table(heads, rows)}\n\n![{_TITLES[measure]}](benchmarks/{measure}.svg)"


def _cell(values: Sequence[float], figure: Figure) -> str:
    if not values:
        return "–"
    middle = number(median(values), figure)
    if len(values) == 1:
        return middle
    return f"{middle} ({number(min(values), figure)} – {number(max(values), figure)})"


def _against(results: Results, queue: Queue, name: str) -> str:
    best = best_peer(results, name)
    if best is None:
        return "–"
    return f"{ratio(median(results.samples[queue.name].get(name, ())), best[1])} {best[0]}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table, numbers to the right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _where(results: Results) -> str:
    machine = results.machine
    settings = ", ".join(f"`{name} = {value}`" for name, value in results.postgres_settings.items())
    return (
        f"{results.moment:%Y-%m-%d}, {machine.cores} cores ({machine.cpu}), "
        f"{machine.memory_bytes / 2**30:.0f} GiB memory, {machine.system}, load {machine.load:.1f} at the start.\n"
        f"Postgres {results.postgres}, on the same machine, for all: {settings}; all tables logged."
    )


def _compared(results: Results) -> str:
    rows = [[queue.name, queue.runs, queue.settings] for queue in results.queues]
    lines = ["| queue | version | settings |", "| --- | --- | --- |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _left_out(results: Results) -> str:
    lines = [f"- {name}: {reason}" for name, reason in results.left_out.items()]
    return "Left out in this run:\n\n" + "\n".join(lines)


def _claims(results: Results) -> str:
    parts = [
        "### Claim cost of ours",
        "Median milliseconds of one claim of 10 rows. In every case 1,000 plain rows are due; the head says how many "
        "finished rows and how many pending ones of the case there are besides. In parentheses: ratio to the first "
        "column.",
    ]
    for postgres in dict.fromkeys(cost.postgres for cost in results.claims):
        costs = [cost for cost in results.claims if cost.postgres == postgres]
        sizes = list(dict.fromkeys((cost.finished, cost.pending) for cost in costs))
        heads = [f"Postgres {postgres}", *[f"{_short(done)} finished, {_short(wait)} pending" for done, wait in sizes]]
        rows = []
        for case, title in CLAIM_CASES.items():
            by_size = {(cost.finished, cost.pending): cost for cost in costs if cost.case == case}
            if not by_size:
                continue
            base = by_size[sizes[0]].milliseconds if sizes[0] in by_size else math.nan
            cells = []
            for size in sizes:
                cost = by_size.get(size)
                cells.append(f"{cost.milliseconds:.2f} ({ratio(cost.milliseconds, base)})" if cost else "–")
            rows.append([title, *cells])
        parts.append(table(heads, rows))
    parts.append("![Claim cost](benchmarks/claims.svg)")
    return "\n\n".join(parts)


def _short(count: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if count >= size and count % size == 0:
            return f"{count // size} {letter}"
    return str(count)


_HOW = """
## How it is measured

- Every queue runs in processes of its own, with its own client library. Settings are those that its documentation
  (graphile-worker) or its own benchmark (River) gives for throughput; for the others, which options there are is from
  their documentation or source, and the numbers were chosen here (`tests/bench/peers`). One queue at a time; an empty
  database for each repetition; a checkpoint before each measurement; the repetitions of all queues take turns.
- **No figure by trick.** `fsync` and `synchronous_commit` are on. The user's function is called once per job: each
  process counts its calls and adds up the jobs' numbers, and both have to come out right; in ours, every row holds the
  process id and the number of the call, and no pair may come twice. Where a queue keeps its rows, as many as there were
  jobs have to be marked as succeeded.
- **Bulk insert**: the queue's fastest documented call, one transaction, an empty table, no worker.
- **Drain**: the worker is warm and idle, and is held still (SIGSTOP) while the jobs are inserted. The time runs from
  SIGCONT until no job is pending or running; those that would take minutes drain fewer jobs. The looks, one each 10 ms,
  use an index where the queue has one. Processor time is read from /proc for all processes of the worker and of the
  Postgres server; the log from Postgres' own counter.
- **Pickup**: jobs submitted one by one, 30 ms after the last one started, to an idle worker: from the return of the
  submit's commit to the first line of the job's function. It is negative where the function runs before the client has
  read the answer to its commit.
- **CPU-bound**: jobs of about 20 ms in a loop, two at a time, against two bare processes that run the same loop in the
  same language. Both take turns of two or three seconds, as a core's own speed changes by a tenth from one to the next.
- **Idle**: proportional set size of all processes of a warm worker, and its transactions a second; once.
- **Claim cost**: claims of 10 rows, one after another, on a table filled by one INSERT and vacuumed; here alone without
  waiting for the disk (`synchronous_commit = off`), which is the same in all cases and would hide how they differ.
"""
