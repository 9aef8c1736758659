"""What the image and each role take: ``python -m tests.bench.footprint`` with `make cluster` up.

PSS counts pages that several processes share in parts, so a pod's processes can be added up: all memory that the pod
would give back, but for the kernel's.
"""

from __future__ import annotations

import json
import os
import subprocess
import tarfile

from tests.support.cluster import demo
from tests.support.cluster.controlplane import Cluster
from tests.support.cluster.images import project_image
from tests.support.cluster.installation import NAMESPACE

# Runs in the pod, and leaves itself out.
_PSS = """
import json, os
from pathlib import Path
found = {}
for process in Path("/proc").iterdir():
    if process.name.isdigit() and int(process.name) != os.getpid():
        lines = (process / "smaps_rollup").read_text().splitlines()
        found[process.name] = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
print(json.dumps(found))
"""


def main() -> None:
    """Print a table."""
    cluster = Cluster(demo.directory() / "kubeconfig")
    image = project_image()
    with tarfile.open(image.archive) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        layers = [archive.getmember(name).size for name in json.load(manifest)[0]["Layers"]]
    print(f"image: {sum(layers) / 1e6:.0f} MB unpacked, of which its base {layers[0] / 1e6:.0f} MB")
    compressed = subprocess.run(["gzip", "--stdout", "-6", image.archive], stdout=subprocess.PIPE, check=True).stdout
    print(f"image: {len(compressed) / 1e6:.0f} MB compressed")
    listed = json.loads(cluster.kubectl("get", "pods", f"--namespace={NAMESPACE}", "--output=json").stdout)
    for pod in listed["items"]:
        name = pod["metadata"]["name"]
        result = cluster.kubectl("exec", f"--namespace={NAMESPACE}", name, "--", "python3", "-c", _PSS)
        found: dict[str, int] = json.loads(result.stdout)
        each = ", ".join(
            f"process {pid} {kib / 1024:.1f}" for pid, kib in sorted(found.items(), key=lambda it: int(it[0]))
        )
        print(f"{name}: {sum(found.values()) / 1024:.1f} MiB PSS ({each})")
    print(f"on {os.cpu_count()} CPUs")


if __name__ == "__main__":
    main()
