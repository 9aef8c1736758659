"""A real KEDA takes a pool from none to some and back, by what the operator and by what the database tell it.

KEDA's two programs run beside a cluster without nodes: pods exist and stay pending, which is all that is counted here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.aggregated import aggregated, free_port
from tests.support.cluster.binaries import find_binaries
from tests.support.cluster.certificates import Identity, write_certificates
from tests.support.cluster.components import Components
from tests.support.cluster.controlplane import Cluster, shared_cluster
from tests.support.cluster.modules import KEDA
from tests.support.definitions import definition_files
from tests.support.manifests import MANIFESTS
from tests.support.operators import eventually, install_definition, operators
from tests.support.pools import WorkerPools
from tests.support.table import sql

pytestmark = [pytest.mark.autoscaling, pytest.mark.slow, pytest.mark.timeout(600)]

NAMESPACE = "workerjobs"
DEFINITIONS = (
    *("scaledobjects.keda.sh", "scaledjobs.keda.sh"),
    *("triggerauthentications.keda.sh", "clustertriggerauthentications.keda.sh"),
    *("cloudeventsources.eventing.keda.sh", "clustercloudeventsources.eventing.keda.sh"),
)
HOST = "127.0.0.1"
SECONDS_TO_SCALE = 120.0
"""KEDA looks every few seconds, the HPA that it makes every 15 s, and not long after its beginning."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with KEDA."""
    folder = tmp_path_factory.mktemp("keda")
    certificates = write_certificates(folder / "pki", names=["localhost"], addresses=[HOST])

    def as_keda_reads(name: str, identity: Identity) -> Path:
        into = folder / name
        into.mkdir()
        for source, target in (
            (identity.certificate, "tls.crt"),
            (identity.key, "tls.key"),
            (certificates.ca, "ca.crt"),
        ):
            shutil.copy(source, into / target)
        return into

    with shared_cluster(folder / "cluster") as cluster:
        install_definition(cluster)
        for file in definition_files(*DEFINITIONS):
            cluster.kubectl("apply", "--server-side", "-f", str(file))
        for name in DEFINITIONS:
            cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")
        for name in ("keda", NAMESPACE):
            cluster.kubectl("create", "namespace", name)
        programs = find_binaries(KEDA)
        environment = {
            "KUBECONFIG": str(cluster.kubeconfig),
            "WATCH_NAMESPACE": "",
            "POD_NAMESPACE": "keda",
            "KEDA_CLUSTER_OBJECT_NAMESPACE": "keda",
        }
        (folder / "log").mkdir()
        metrics, port = f"{HOST}:{free_port()}", free_port()
        with Components(folder, environment=environment) as components:
            components.start(
                programs["keda-operator"].path,
                cert_dir=as_keda_reads("server", certificates.server),
                metrics_service_bind_address=metrics,
                metrics_bind_address="0",
                health_probe_bind_address="0",
            )
            components.start(
                programs["keda-adapter"].path,
                cert_dir=as_keda_reads("client", certificates.admin),
                metrics_service_address=metrics,
                port=free_port(),
                bind_address=HOST,
                secure_port=port,
                lister_kubeconfig=cluster.kubeconfig,
                authentication_kubeconfig=cluster.kubeconfig,
                authorization_kubeconfig=cluster.kubeconfig,
            )
            with aggregated(cluster, "external.metrics.k8s.io", "localhost", port):
                yield cluster


def secret(name: str, **data: str) -> dict[str, Any]:
    """A Secret that a policy names."""
    about = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": about, "stringData": data}


@pytest.mark.parametrize("trigger", ["metrics-api", "postgresql"])
def test_keda_takes_a_pool_from_none_to_some_and_back(
    cluster: Cluster, tmp_path: Path, database_url: str, trigger: str
) -> None:
    port = free_port()
    policy = (MANIFESTS / "autoscaling" / f"keda-{trigger}.yaml").read_text(encoding="utf-8")
    # The operator is a process here, and has no Service.
    manifests = list(yaml.safe_load_all(policy.replace("workerjobs-operator.workerjobs.svc:8090", f"{HOST}:{port}")))
    pool, _, scaled = manifests
    # It begins with none.
    pool["spec"]["replicas"] = 0
    scaled["spec"] |= {"pollingInterval": 1, "cooldownPeriod": 5}
    items = [*manifests, secret("workerjobs-backlog", token="a token"), secret("workerjobs-database", url=database_url)]
    name = pool["metadata"]["name"]
    pools = WorkerPools(cluster, NAMESPACE)
    variables = {
        "WORKER_HEALTH_HOST": HOST,
        "WORKER_HEALTH_PORT": str(port),
        "WORKERJOBS_BACKLOG_TOKEN": "a token",
    }
    with operators(tmp_path, cluster.kubeconfig, database_url, NAMESPACE) as started:
        started.start(**variables).wait_until_watching()
        cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        ready = "--for=condition=Ready=True"
        pools.kubectl("wait", ready, f"scaledobject/{name}", "--timeout=50s")
        pools.wait_for_replicas(0, name)
        sql(
            database_url,
            'insert into "workerJobs" (type, pool) select %s, %s from generate_series(1, 25)',
            *("report", name),
        )
        # Ten a pod.
        eventually(lambda: pools.replicas(name) == 3, seconds=SECONDS_TO_SCALE, every=0.5)
        sql(database_url, 'delete from "workerJobs"')
        eventually(lambda: pools.replicas(name) == 0, seconds=SECONDS_TO_SCALE, every=0.5)
        pools.kubectl("delete", "scaledobject,workerpool", name)
