"""A real KEDA takes a pool from none to some and back, by what the operator and by what the database tell it.

KEDA's two programs run beside a real node, whose workers run the jobs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.aggregated import aggregated, listens
from tests.support.chronicle import chronicle
from tests.support.cluster.binaries import find_binaries
from tests.support.cluster.certificates import Identity, write_certificates
from tests.support.cluster.components import Components
from tests.support.cluster.fixtures import Node
from tests.support.cluster.installation import NAMESPACE
from tests.support.cluster.modules import KEDA
from tests.support.definitions import definition_files
from tests.support.manifests import MANIFESTS
from tests.support.operators import eventually
from tests.support.pod_pool import pod_pool
from tests.support.ports import free_port
from tests.support.table import sql

pytestmark = [
    pytest.mark.autoscaling,
    pytest.mark.slow,
    pytest.mark.xdist_group("node"),
    pytest.mark.timeout(900),
]

DEFINITIONS = (
    *("scaledobjects.keda.sh", "scaledjobs.keda.sh"),
    *("triggerauthentications.keda.sh", "clustertriggerauthentications.keda.sh"),
    *("cloudeventsources.eventing.keda.sh", "clustercloudeventsources.eventing.keda.sh"),
)
HOST = "127.0.0.1"
JOBS, JOB_SECONDS = 60, 5
SECONDS_TO_SCALE = 240.0
"""KEDA looks every few seconds, the HPA that it makes every 15 s, and not long after its beginning."""


@pytest.fixture(scope="module")
def keda(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """KEDA, beside the node."""
    folder = tmp_path_factory.mktemp("keda")
    (folder / "log").mkdir()
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

    kubeconfig = node.cluster.kubeconfig
    for file in definition_files(*DEFINITIONS):
        node.cluster.kubectl("apply", "--server-side", "-f", str(file))
    for name in DEFINITIONS:
        node.cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=60s")
    node.cluster.kubectl("create", "namespace", "keda")
    programs = find_binaries(KEDA)
    environment = {
        "KUBECONFIG": str(kubeconfig),
        "WATCH_NAMESPACE": "",
        "POD_NAMESPACE": "keda",
        "KEDA_CLUSTER_OBJECT_NAMESPACE": "keda",
    }
    metrics, port = f"{HOST}:{free_port()}", free_port(node.machine)
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
            bind_address=node.machine,
            secure_port=port,
            lister_kubeconfig=kubeconfig,
            authentication_kubeconfig=kubeconfig,
            authorization_kubeconfig=kubeconfig,
        )
        components.wait("keda-adapter", "listen", lambda: listens(node.machine, port))
        with aggregated(node.cluster, "external.metrics.k8s.io", node.machine, port):
            yield


def operator_address(node: Node) -> str:
    """Where one of the operator's pods answers: KEDA is no pod here, and knows no Services."""
    selector = "--selector=app.kubernetes.io/component=operator"
    address = "--output=jsonpath={.items[0].status.podIP}"
    return node.cluster.kubectl("get", "pods", f"--namespace={NAMESPACE}", selector, address).stdout


@pytest.mark.usefixtures("keda")
@pytest.mark.parametrize(("trigger", "name"), [("metrics-api", "bursts"), ("postgresql", "nightly")])
def test_keda_takes_a_pool_from_none_to_some_and_back(node: Node, trigger: str, name: str) -> None:
    policy = (MANIFESTS / "autoscaling" / f"keda-{trigger}.yaml").read_text(encoding="utf-8")
    policy = policy.replace("workerjobs-operator.workerjobs.svc", operator_address(node))
    with chronicle() as notes, pod_pool(node.cluster, node.database_url, replicas=0, maxWorkers=3) as pool:
        _, authentication, scaled = yaml.safe_load_all(policy.replace(name, pool.name))
        scaled["spec"] |= {"maxReplicaCount": 3, "pollingInterval": 1, "cooldownPeriod": 5}
        policies = {"apiVersion": "v1", "kind": "List", "items": [authentication, scaled]}
        pool.kubectl("apply", "-f", "-", input=json.dumps(policies))
        try:
            pool.kubectl("wait", "--for=condition=Ready=True", f"scaledobject/{pool.name}", "--timeout=60s")
            pool.wait(desired=0)
            assert pool.pods() == []
            notes.note("KEDA is ready, and there is no worker")
            submit = "select workerjobs.submit('traced', %s::json, pool => %s) from generate_series(1, %s)"
            sql(node.database_url, submit, json.dumps({"seconds": JOB_SECONDS}), pool.name, JOBS)
            notes.note(f"{JOBS} jobs of {JOB_SECONDS} s are submitted")
            eventually(lambda: pool.status()["ready"] >= 1, seconds=SECONDS_TO_SCALE, every=0.5)
            notes.note("one worker is ready")
            # One for every ten jobs, and no more than the policy allows.
            eventually(lambda: pool.status()["ready"] == 3, seconds=SECONDS_TO_SCALE, every=0.5)
            notes.note("three workers are ready")
            assert pool.status()["reason"] == "ReplicasSet"
            unfinished = 'select count(*) from "workerJobs" where pool = %s and finished is null'
            eventually(
                lambda: sql(node.database_url, unfinished, pool.name) == [(0,)], seconds=SECONDS_TO_SCALE, every=0.5
            )
            notes.note("all jobs are finished")
            eventually(
                lambda: pool.status()["replicas"] == 0 and pool.pods() == [], seconds=SECONDS_TO_SCALE, every=0.5
            )
            notes.note("no worker is left")
        finally:
            for kind, of in (("ScaledObject", pool.name), ("HorizontalPodAutoscaler", f"keda-hpa-{pool.name}")):
                notes.note_events(node.cluster, NAMESPACE, kind, name=of)
            pool.kubectl("delete", "scaledobject", pool.name)
        unhurt = 'select count(*) from "workerJobs" where pool = %s and success and attempt = 1 and rescues = 0'
        assert sql(node.database_url, unhurt, pool.name) == [(JOBS,)]
