"""Small pictures of large ones."""

from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, Field

from workerjobs import JobContext, job

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


class Thumbnails(BaseModel):
    source: str = Field(min_length=1, description="A folder with pictures.")
    target: str = Field(min_length=1, description="Where the small ones go; made where it is missing.")
    size: int = Field(default=128, ge=16, le=2048, description="Pixels of the longer side.")


@job("makeThumbnails", isolation="fresh", memory_mib=512, timeout_seconds=600, retry=2)
def make_thumbnails(wanted: Thumbnails, context: JobContext) -> dict[str, Any]:
    """Make a small picture of each in a folder; those that are there already stay."""
    pictures = sorted(each for each in Path(wanted.source).iterdir() if each.suffix.lower() in SUFFIXES)
    target = Path(wanted.target)
    target.mkdir(parents=True, exist_ok=True)
    made, broken = 0, []
    for number, picture in enumerate(pictures, start=1):
        small = target / f"{picture.stem}.png"
        if not small.exists():
            try:
                _shrink(picture, small, wanted.size)
                made += 1
            except (UnidentifiedImageError, OSError) as error:
                context.log.warning("%s: %s", picture.name, error)
                broken.append(picture.name)
        context.progress(number, len(pictures), picture.name)
    return {"pictures": len(pictures), "made": made, "broken": broken}


def _shrink(picture: Path, small: Path, size: int) -> None:
    unfinished = small.with_suffix(".part")
    with Image.open(picture) as image:
        image.thumbnail((size, size))
        image.save(unfinished, "PNG")
    unfinished.replace(small)
