"""Jobs of a small shop."""

from workerjobs import JobContext, job


@job("priceOrder")
def price_order(data):
    """Sum up an order: the result is in the job's row."""
    return {"total": sum(line["price"] * line["count"] for line in data["lines"])}


@job("importCatalogue")
async def import_catalogue(data, context: JobContext):
    """Async functions work as well; progress shows in `workerjobs list` and in the WorkerJob's status."""
    for number, product in enumerate(data["products"], start=1):
        context.log.info("importing %s", product)
        context.progress(number, len(data["products"]), product)
    return {"imported": len(data["products"])}
