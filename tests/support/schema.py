"""The schema as SQL; ``python -m tests.support.schema`` writes storage/schema.sql, from what the migrations make."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from workerjobs.storage import embedded, migrate
from workerjobs.storage.embedded_programs import find_binaries

SCHEMA = Path(migrate.__file__).with_name("schema.sql")
HEADER = """\
-- The whole schema, as all migrations together make it: to be read, not to be run (`workerjobs migrate` does that).
-- Written by `make schema`; the reasons stand in migrations/.

"""

# What pg_dump says besides: settings of its session, and a headline for each object.
_NOISE = re.compile(r"^(SET |SELECT pg_catalog\.set_config|\\|--).*\n", re.MULTILINE)


def dump_schema(url: str) -> str:
    """Describe all of a database's objects, in an order that does not depend on how they came about."""
    # Of the embedded server's version: it reads all older ones.
    program = find_binaries().folder / "pg_dump"
    options = ["--schema-only", "--no-owner", "--no-privileges", "--no-tablespaces"]
    dump = subprocess.run([str(program), *options, f"--dbname={url}"], capture_output=True, text=True, check=True)
    return re.sub(r"\n{3,}", "\n\n", _NOISE.sub("", dump.stdout)).strip() + "\n"


def main() -> None:
    """Write the file."""
    with embedded.EmbeddedPostgres.ephemeral(settings={"fsync": "off"}) as server:
        migrate.migrate_url(server.url)
        SCHEMA.write_text(HEADER + dump_schema(server.url))


if __name__ == "__main__":
    main()
