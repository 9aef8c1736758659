"""Draws pictures, has small ones made of them, and shows the progress. All of it is gone afterwards."""

import tempfile
import time
from pathlib import Path

from PIL import Image

from workerjobs import WorkerManager
from workerjobs.testing import database

JOBS = Path(__file__).with_name("thumbnail_jobs.py")
PICTURES = 24


def draw(folder: Path) -> None:
    """Draw pictures, and put a broken one among them."""
    folder.mkdir()
    for number in range(PICTURES):
        Image.effect_mandelbrot((1200, 800), (-2 + number / 20, -1.2, 1, 1.2), 60).save(folder / f"{number:02}.jpg")
    (folder / "broken.jpg").write_bytes(b"no picture")


def main() -> None:
    """Show it."""
    with tempfile.TemporaryDirectory() as name, database() as url:
        source, target = Path(name) / "large", Path(name) / "small"
        draw(source)
        with WorkerManager(database_url=url, worker_count=1, job_modules=[str(JOBS)]) as manager:
            job = manager.submit_job({"type": "makeThumbnails", "data": {"source": str(source), "target": str(target)}})
            shown = None
            while not job.state.is_final:
                if (job := manager.get_job(job.id)).progress != shown and job.progress is not None:
                    shown = job.progress
                    print(f"{shown['current']} of {shown['total']}: {shown['message']}")
                time.sleep(0.1)
        sizes = sorted(each.stat().st_size for each in target.iterdir())
        print(f"job {job.id} {job.state}: {job.result}")
        print(f"{len(sizes)} small pictures, the largest of {sizes[-1]} bytes")


if __name__ == "__main__":
    main()
