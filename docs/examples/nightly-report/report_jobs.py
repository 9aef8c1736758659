"""The nightly report of a shop: what was sold on a day, by product."""

from datetime import date
from typing import Any

from pydantic import BaseModel, Field

from workerjobs import JobContext, job

YESTERDAY = "select (now() at time zone %(zone)s)::date - 1"
CLEAR = "delete from sales_reports where day = %(day)s"
WRITE = """
    insert into sales_reports (day, product, sold, revenue)
    select %(day)s, product, sum(count), sum(count * price)
    from orders
    where ordered_at >= %(day)s::timestamp at time zone %(zone)s
        and ordered_at < (%(day)s::timestamp + interval '1 day') at time zone %(zone)s
    group by product
    on conflict (day, product) do update set sold = excluded.sold, revenue = excluded.revenue
    returning product, sold, revenue
"""


class Report(BaseModel):
    day: date | None = Field(default=None, description="Yesterday, where none is given.")
    zone: str = Field(default="Europe/Berlin", description="Where the shop's days begin and end.")
    top: int = Field(default=3, ge=1, le=100, description="How many products the result names.")


@job("salesReport", timeout_seconds=600, retry=3)
def sales_report(report: Report, context: JobContext) -> dict[str, Any]:
    """Write a day's report. Done again it comes to the same, so it may run more than once."""
    connection = context.connection
    values: dict[str, Any] = {"zone": report.zone, "day": report.day}
    if report.day is None:
        (values["day"],) = connection.execute(YESTERDAY, values).fetchone()
    context.progress(0, 1, f"reading the orders of {values['day']}")
    with connection.transaction():
        connection.execute(CLEAR, values)
        lines = connection.execute(WRITE, values).fetchall()
    context.progress(1, 1, f"{len(lines)} products")
    context.log.info("wrote %s lines for %s", len(lines), values["day"])
    best = sorted(lines, key=lambda line: line[2], reverse=True)[: report.top]
    return {
        "day": values["day"].isoformat(),
        "products": len(lines),
        "revenue": str(sum(revenue for _, _, revenue in lines)),
        "best": [{"product": product, "sold": int(sold), "revenue": str(revenue)} for product, sold, revenue in best],
    }
