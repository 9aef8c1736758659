"""What `make cluster` does: WorkerJobs with its samples on a real node here, or in the user's own cluster."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.support.cluster import controlplane, installation, node
from tests.support.cluster.controlplane import Cluster
from tests.support.cluster.preparation import CannotRunPodsError, prepare_node
from tests.support.cluster.sources import Report, cache_folder, report_to_stderr

KUBECONFIG_VARIABLE = "WORKERJOBS_KUBECONFIG"
IMAGE_VARIABLE = "WORKERJOBS_IMAGE"
_KIND = (
    "kind brings up a cluster in Docker (https://kind.sigs.k8s.io): kind create cluster && "
    "docker build -t workerjobs:0.1.0 . && kind load docker-image workerjobs:0.1.0, then "
    f"{KUBECONFIG_VARIABLE}=~/.kube/config {IMAGE_VARIABLE}=workerjobs:0.1.0 make cluster"
)


class DemoError(Exception):
    """It cannot be shown here; the message is one sentence on why, and on the way that there is."""


def directory() -> Path:
    """Where the node of `make cluster` is."""
    return cache_folder() / "cluster"


def up(report: Report = report_to_stderr) -> None:
    """Bring up a cluster, install WorkerJobs, run the samples, and show pods, pools and jobs."""
    started = time.monotonic()
    named = os.environ.get(KUBECONFIG_VARIABLE) or os.environ.get("KUBECONFIG")
    own = str(directory() / "kubeconfig")
    if named and named != own:
        cluster, image, database_url = Cluster(Path(named).absolute()), os.environ.get(IMAGE_VARIABLE), None
        context = cluster.kubectl("config", "current-context").stdout.strip()
        if image is None:
            raise DemoError(
                f"{named} names the cluster {context}: {IMAGE_VARIABLE} has to name an image that it can get, built by "
                "docker build -t workerjobs:0.1.0 ."
            )
        report(f"installing into the cluster {context} of {named}")
    else:
        try:
            built = prepare_node(report)
        except CannotRunPodsError as error:
            raise DemoError(f"no node can run here: {error}. {_KIND}") from error
        report("starting the node")
        controlplane.up(directory(), command="run-node")
        report("giving it the image")
        node.import_image(directory(), built)
        cluster, image, database_url = Cluster(Path(own)), built.name, node.database_url(directory())
    report("installing WorkerJobs")
    installation.install(cluster, image, database_url)
    installation.wait_until_ready(cluster)
    report("running the samples")
    installation.run_samples(cluster)
    for title, arguments in (
        ("Pods", ("get", "pods", f"--namespace={installation.NAMESPACE}", "--output=wide")),
        ("Pools", ("get", "workerpools", f"--namespace={installation.NAMESPACE}", "--output=wide")),
        ("Jobs", ("get", "workerjobs", "--output=wide")),
    ):
        print(f"\n{title}\n{cluster.kubectl(*arguments).stdout}", end="")
    print(f"\nAfter {time.monotonic() - started:.0f} s. To look around:\n\n  export KUBECONFIG={cluster.kubeconfig}")
    print("  .venv/bin/kubectl get workerjobs --watch\n\n`make cluster-down` ends it.")


def down(report: Report = report_to_stderr) -> None:
    """End the node of `make cluster`, with all that is on it."""
    controlplane.down(directory())
    report("the node is down; a cluster named by a kubeconfig is left as it is")
