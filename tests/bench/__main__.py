"""`make bench`: measures ours and the peers side by side and writes docs/benchmarks.md with its plots.

make bench                                    everything, about an hour; one that was ended goes on where it was
make bench ONLY=drain,pickup PEERS=ours,river some of it; nothing is written but what --output names
make bench ARGS='--repetitions 1 --quick'     small counts, to see that everything works
make bench ARGS=--anew                        forgetting what an ended run had measured
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from tests.bench import environments, report, server
from tests.bench.adapters import ADAPTERS, ALIASES, OURS, OURS_FRESH, Adapter
from tests.bench.claims import ClaimCost, measure_claims
from tests.bench.environments import PEERS, LeftOutError
from tests.bench.measures import MEASURES, Counts
from tests.bench.programs import BrokenPeerError
from tests.bench.records import Records, digest_of, records_file
from tests.bench.report import Machine, Queue, Results
from tests.bench.server import Server
from workerjobs.errors import WorkerJobsError

DOCS = Path(__file__).parents[2] / "docs"
PACKAGE = Path(__file__).parents[2] / "operator" / "workerjobs"
CLAIMS = "claims"
QUICK = Counts(insert=5_000, drain=1_000, pickup=30, cpu=10, warm_up=100, idle_seconds=2)


def say(line: str) -> None:
    """Show progress."""
    print(f"bench {datetime.now(UTC):%H:%M:%S}  {line}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print and write."""
    options = _options()
    # As an exception, so that the queues' programs are stopped too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    began = time.monotonic()
    adapters = [ADAPTERS[name] for name in options.peers]
    left_out = _prepare(adapters)
    adapters = [adapter for adapter in adapters if adapter.name not in left_out]
    counts = QUICK if options.quick else Counts()
    machine = _machine()
    records = Records(records_file() if options.is_whole else None)
    if options.anew:
        records.forget()
    samples: dict[str, dict[str, list[float]]] = {adapter.name: {} for adapter in adapters}
    with server.running() as postgres:
        version, settings = postgres.version, postgres.settings()
        plan = _plan(adapters, [name for name in MEASURES if name in options.only], options.repetitions)
        for number, (repetition, measure, adapter) in enumerate(plan):
            if time.monotonic() - began > options.minutes * 60:
                left_out.setdefault(f"repetition {repetition + 1} of {measure}", "the time was up")
                continue
            place = f"{number + 1}/{len(plan)}"
            _measure(measure, adapter, postgres, counts, samples[adapter.name], left_out, repetition, records, place)
        claims = _claims(postgres, options.claim_rows, records) if CLAIMS in options.only else []
    if CLAIMS in options.only:
        claims += _claims_on_postgres_14(options.claim_rows, left_out, records)
    results = Results(
        moment=datetime.now(UTC),
        machine=machine,
        postgres=version,
        postgres_settings=settings,
        repetitions=options.repetitions,
        counts=asdict(counts),
        queues=[_queue(adapter) for adapter in adapters if samples[adapter.name]],
        samples=samples,
        left_out=left_out,
        claims=claims,
    )
    chains = None if options.output is None else options.output / "benchmarks" / "chains.md"
    page = report.markdown(results, [] if chains is None or not chains.exists() else [chains.read_text().strip()])
    print(page)
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        page_file = options.output / "benchmarks.md"
        former = page_file.read_text() if page_file.exists() else ""
        page_file.write_text(page + report.written_by_others(former))
        (options.output / "benchmarks").mkdir(exist_ok=True)
        figures = json.dumps(asdict(results), indent=1, default=str)
        (options.output / "benchmarks" / "results.json").write_text(figures + "\n")
        # Here and not above: only who writes a page needs matplotlib.
        from tests.bench import plots

        for file in plots.draw(results, options.output / "benchmarks"):
            say(f"wrote {file}")
        records.forget()
    say(f"took {(time.monotonic() - began) / 60:.1f} min")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=_some_of([*MEASURES, CLAIMS], {}), default=[*MEASURES, CLAIMS])
    parser.add_argument("--peers", type=_some_of(list(ADAPTERS), ALIASES), default=list(ADAPTERS))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=120, help="begin nothing new after this time")
    parser.add_argument("--quick", action="store_true", help="small counts: figures of no worth, but soon")
    parser.add_argument("--claim-rows", type=int, default=10_000_000, help="finished rows of the fullest table")
    parser.add_argument("--output", type=Path, help="folder to write to; docs where everything is measured")
    parser.add_argument("--anew", action="store_true", help="forget what a whole run that was ended had measured")
    options = parser.parse_args()
    options.is_whole = options.only == [*MEASURES, CLAIMS] and options.peers == list(ADAPTERS) and not options.quick
    if options.output is None and options.is_whole:
        options.output = DOCS
    return options


def _plan(adapters: Sequence[Adapter], measures: Sequence[str], repetitions: int) -> list[tuple[int, str, Adapter]]:
    """What to measure, in order: the repetitions of all take turns, so that what the machine does meets them alike."""
    return [
        (repetition, measure, adapter)
        for repetition in range(repetitions)
        for measure in measures
        for adapter in adapters
        # Isolation is a matter of workers: the same insert. And what idle workers take does not vary.
        if not (measure == "insert" and adapter is OURS_FRESH) and not (measure == "idle" and repetition > 0)
    ]


def _some_of(names: Sequence[str], aliases: Mapping[str, str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        chosen = {aliases.get(word.strip(), word.strip()) for word in text.split(",")}
        if unknown := sorted(chosen - set(names)):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join([*names, *aliases])}")
        return [name for name in names if name in chosen]

    return parse


def _prepare(adapters: Sequence[Adapter]) -> dict[str, str]:
    """Install what is missing; returns the peers that can't be had, with the reason."""
    left_out = {}
    for adapter in adapters:
        try:
            adapter.client()
        except LeftOutError as error:
            say(f"{adapter.name} is left out: {error}")
            left_out[adapter.name] = str(error)
    return left_out


def _measure(
    measure: str,
    adapter: Adapter,
    postgres: Server,
    counts: Counts,
    samples: dict[str, list[float]],
    left_out: dict[str, str],
    repetition: int,
    records: Records,
    place: str,
) -> None:
    label = f"{adapter.name}, {measure}"
    if label in left_out:
        return
    sources = [PEERS.parent, *([PACKAGE] if adapter in (OURS, OURS_FRESH) else [])]
    record = f"{measure} {adapter.name} {repetition} {digest_of(sources)} {postgres.version} {counts}"
    figures = records.get(record)
    is_known = figures is not None
    if figures is None:
        say(f"{place}  {measure:7} {adapter.name:16} …")
        try:
            figures = MEASURES[measure](adapter, postgres, counts)
        except (BrokenPeerError, OSError, psycopg.Error, WorkerJobsError) as error:
            say(f"{label} is left out: {error}")
            left_out[label] = str(error)
            return
        records.put(record, figures)
    for name, value in figures.items():
        samples.setdefault(name, []).append(value)
    shown = ", ".join(f"{name} {value:,.2f}" for name, value in figures.items())
    say(f"{place}  {measure:7} {adapter.name:16} {shown}{' (before)' if is_known else ''}")


def _claims(
    postgres: Server, rows: int, records: Records, sizes: Sequence[tuple[int, int]] | None = None
) -> list[ClaimCost]:
    """Measure what claims cost at some sizes of the table, (finished, pending) rows; what is known is left out."""
    pending = min(1_000_000, rows)
    costs = []
    for size in sizes or [(0, 0), (0, pending), (rows // 10, pending), (rows, pending)]:
        record = f"claims {size} {digest_of([PEERS.parent, PACKAGE])} {postgres.version}"
        if (known := records.get(record)) is None:
            known = [asdict(cost) for cost in measure_claims(postgres, [size], say)]
            records.put(record, known)
        else:
            say(f"claims: {size[0]:,} finished, {size[1]:,} pending: measured before")
        costs += [ClaimCost(**cost) for cost in known]
    return costs


def _claims_on_postgres_14(rows: int, left_out: dict[str, str], records: Records) -> list[ClaimCost]:
    pending = min(1_000_000, rows)
    try:
        with server.running(environments.postgres_14()) as postgres:
            return _claims(postgres, rows, records, [(0, 0), (0, pending), (rows, pending)])
    except (LeftOutError, WorkerJobsError, psycopg.Error) as error:
        left_out["Postgres 14, claims"] = str(error)
        say(f"Postgres 14 is left out: {error}")
        return []


def _queue(adapter: Adapter) -> Queue:
    return Queue(adapter.name, adapter.runs, adapter.settings, is_ours=adapter in (OURS, OURS_FRESH))


def _machine() -> Machine:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    system = f"Linux {platform.release().split('-')[0]}"
    return Machine(cpu, len(os.sched_getaffinity(0)), memory, system, os.getloadavg()[0])


if __name__ == "__main__":
    main()
