"""Jobs whose data is checked before they run."""

from datetime import date
from typing import Literal

from pydantic import BaseModel, Field

from workerjobs import JobContext, job


class Line(BaseModel):
    text: str
    price: float = Field(ge=0)
    count: int = Field(default=1, ge=1)


class Invoice(BaseModel):
    to: str = Field(min_length=1)
    due: date
    currency: Literal["EUR", "USD"] = "EUR"
    lines: list[Line] = Field(min_length=1)


@job("sendInvoice", timeout_seconds=60, retry=3)
def send_invoice(invoice: Invoice, context: JobContext):
    """Send an invoice, and say what it came to."""
    total = 0.0
    for number, line in enumerate(invoice.lines, start=1):
        total += line.price * line.count
        context.progress(number, len(invoice.lines), line.text)
    context.log.info("an invoice of %s %s to %s", total, invoice.currency, invoice.to)
    return {"to": invoice.to, "total": total, "due": invoice.due.isoformat()}
