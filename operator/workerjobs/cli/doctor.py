"""Looking whether the database is fit for WorkerJobs, and what to do where it is not."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import typer

from workerjobs import app
from workerjobs.cli.output import Format, FormatOption, console, print_json
from workerjobs.cli.places import needs_database
from workerjobs.settings.reading import database_direct_url, database_url

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(output: FormatOption = Format.TABLE) -> None:
    """Examine the database: settings, clock, connections, vacuum, stuck rows, cron jobs.

    Exit code 1 if a check fails; warnings leave it 0.
    """
    from workerjobs.domain.doctor import Status, examine, worst

    needs_database()
    with app.database(database_url()) as url:
        facts = asyncio.run(app.gather_facts(url, database_direct_url()))
        name = app.name_of(url)
    findings = examine(facts)
    status = worst(findings)
    if output is Format.JSON:
        print_json({"database": name, "status": status, "checks": [asdict(finding) for finding in findings]})
    else:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=f"Database {name}", title_justify="left", box=None, pad_edge=False, header_style="bold")
        for column in ("CHECK", "STATUS"):
            table.add_column(column, no_wrap=True)
        table.add_column("SEEN, AND WHAT TO DO", overflow="fold")
        for finding in findings:
            text = Text(finding.seen)
            if finding.advice:
                text.append(f"\n→ {finding.advice}", style="bold")
            table.add_row(finding.name, Text(finding.status, style=_COLOURS[finding.status]), text)
        console().print(table)
    if status is Status.FAIL:
        raise typer.Exit(1)
