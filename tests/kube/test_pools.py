"""WorkerPools with the operator as a process, on a real API server with its controllers, and a real Postgres."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import workerjobs
from tests.support.cluster.controlplane import Cluster
from tests.support.operators import Operators, eventually
from tests.support.operators import operators as running_operators
from tests.support.pools import WorkerPools, drain_reasons, finish_jobs, obey, show_worker, workerpool
from tests.support.table import sql

pytestmark = pytest.mark.cluster


@pytest.fixture
def pools(cluster: Cluster, definition: None, namespace: str) -> WorkerPools:
    """The WorkerPools of this test."""
    return WorkerPools(cluster, namespace)


@pytest.fixture
def operators(tmp_path: Path, cluster: Cluster, pools: WorkerPools, database_url: str) -> Iterator[Operators]:
    """Operators of this test's namespace and database."""
    with running_operators(tmp_path, cluster.kubeconfig, database_url, pools.namespace) as started:
        yield started


def submit(database_url: str, jobs: int = 1, *, pool: str = "default", due: str = "now()") -> None:
    sql(
        database_url,
        f'insert into "workerJobs" (type, pool, due) select %s, %s, {due} from generate_series(1, %s)',
        "report",
        pool,
        jobs,
    )


# --- the Deployment


@pytest.mark.slow
def test_pool_becomes_a_deployment_that_goes_with_it(operators: Operators, pools: WorkerPools) -> None:
    operator = operators.start(WORKERJOBS_WORKER_IMAGE="example.invalid/workerjobs:1")
    pools.apply(
        workerCount=2,
        slots=3,
        pool="gpu",
        types=["report", "mail"],
        namespaces=["shop"],
        drainSeconds=60,
        jobModules=["shop.jobs"],
        jobsConfigMap="our-jobs",
        template={
            "metadata": {"annotations": {"team": "a"}},
            "spec": {
                "nodeSelector": {"disk": "ssd"},
                "containers": [
                    {
                        "name": "worker",
                        "env": [{"name": "REGION", "value": "eu"}, {"name": "WORKER_LOG_LEVEL", "value": "debug"}],
                    },
                    {"name": "sidecar", "image": "example.invalid/sidecar"},
                ],
            },
        },
    )
    pools.wait_for_replicas(2)
    deployment = pools.deployment()
    template = deployment["spec"]["template"]
    worker, sidecar = template["spec"]["containers"]
    variables = {each["name"]: each.get("value") for each in worker["env"]}
    assert worker["image"] == "example.invalid/workerjobs:1"
    assert sidecar["name"] == "sidecar"
    expected = {
        "WORKER_COUNT": "3",
        "WORKER_POOL": "gpu",
        "WORKER_TYPES": "report,mail",
        "WORKER_NAMESPACES": "shop",
        "WORKER_GRACE_SECONDS": "60",
        "WORKER_JOB_MODULES": "shop.jobs,/jobs",
        "WORKER_LOG_LEVEL": "debug",
        "REGION": "eu",
    }
    assert {name: variables.get(name) for name in expected} == expected
    assert not any(name.startswith("WEB3") for name in variables)
    assert template["spec"]["terminationGracePeriodSeconds"] == 75
    assert template["spec"]["nodeSelector"] == {"disk": "ssd"}
    assert template["metadata"]["annotations"] == {"team": "a"}
    assert {"name": "jobs", "configMap": {"name": "our-jobs", "defaultMode": 420}} in template["spec"]["volumes"]
    (owner,) = deployment["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("WorkerPool", "default", True)
    pods = pools.wait_for_pods(2)
    status = pools.wait_for_status(replicas=2, ready=0)
    assert (status["desired"], status["reason"], status["workers"]) == (2, "FixedNumber", "2")
    assert pools.condition("Ready")["reason"] == "PodsStarting"
    for pod in pods:
        pools.make_ready(pod)
    pools.kubectl("wait", "--for=condition=Ready", "wp/default", "--timeout=50s")
    pools.kubectl("delete", "workerpool", "default", "--wait=false")
    eventually(lambda: not pools.deployment())
    operator.stop()
    assert operator.complaints() == []


def test_change_of_the_pool_reaches_its_deployment(operators: Operators, pools: WorkerPools) -> None:
    operators.start(
        WORKERJOBS_DATABASE_URL_KEY="uri", WORKERJOBS_DATABASE_DIRECT_URL_KEY="direct", WEB3_SUPPORTED_CHAINS="base"
    )
    pools.apply(workerCount=1)
    pools.wait_for_replicas(1)
    pools.patch(workerCount=3, chain=True, drainSeconds=60, spotNoticeSeconds=30)
    pools.wait_for_replicas(3)
    pod = pools.deployment()["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "workerjobs-chain"}}]
    # Jobs have what a spot node's notice leaves, not all of drainSeconds.
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert (variables["WORKER_GRACE_SECONDS"], pod["terminationGracePeriodSeconds"]) == ("20", 35)
    # What the operator knows, the workers of every pool do.
    assert variables["WEB3_SUPPORTED_CHAINS"] == "base"
    references = {
        each["name"]: each.get("valueFrom", {}).get("secretKeyRef", {}).get("key") for each in container["env"]
    }
    assert (references["DATABASE_URL"], references["DATABASE_DIRECT_URL"]) == ("uri", "direct")
    pools.patch(paused=True)
    pools.wait_for_replicas(0)
    assert pools.wait_for_status(desired=0)["reason"] == "Paused"
    pools.patch(paused=None, chain=None)
    pools.wait_for_replicas(3)
    (container,) = pools.deployment()["spec"]["template"]["spec"]["containers"]
    assert "envFrom" not in container
    assert not any(each["name"].startswith("WEB3") for each in container["env"])


def test_what_somebody_changed_of_the_deployment_is_put_right_and_a_restart_left_alone(
    operators: Operators, pools: WorkerPools
) -> None:
    operators.start()
    pools.apply(workerCount=1, slots=2)
    pools.wait_for_replicas(1)
    name = "deployment/workerjobs-pool-default"
    pools.kubectl("rollout", "restart", name)
    pools.kubectl("set", "env", name, "WORKER_COUNT=9")
    pools.kubectl("scale", name, "--replicas=7")

    def count() -> str | None:
        (container,) = pools.deployment()["spec"]["template"]["spec"]["containers"]
        return next((each["value"] for each in container["env"] if each["name"] == "WORKER_COUNT"), None)

    eventually(lambda: (pools.replicas(), count()) == (1, "2"))
    assert "kubectl.kubernetes.io/restartedAt" in pools.deployment()["spec"]["template"]["metadata"]["annotations"]
    pools.kubectl("delete", name)
    pools.wait_for_replicas(1)


def test_scaling_by_kubectl_rules_until_the_pool_is_released(operators: Operators, pools: WorkerPools) -> None:
    operators.start()
    pools.apply(workerCount=2, maxWorkers=5)
    pools.wait_for_replicas(2)
    pools.kubectl("scale", "wp/default", "--replicas=4")
    pools.wait_for_replicas(4)
    pools.wait_for_pods(4)
    status = pools.wait_for_status(desired=4, replicas=4)
    assert (status["reason"], status["workers"]) == ("ReplicasSet", "replicas 4")
    scale = json.loads(
        pools.kubectl(
            "get", "--raw", f"/apis/quickdapp.xyz/v1/namespaces/{pools.namespace}/workerpools/default/scale"
        ).stdout
    )
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (4, 4)
    selected = pools.kubectl("get", "pods", f"--selector={scale['status']['selector']}", "-o", "name").stdout
    assert len(selected.split()) == 4
    pools.kubectl("scale", "wp/default", "--replicas=40")
    pools.wait_for_replicas(5)
    assert pools.wait_for_status(desired=5)["reason"] == "AtMaximum"
    pools.patch(replicas=None)
    pools.wait_for_replicas(2)
    assert pools.wait_for_status(desired=2)["reason"] == "FixedNumber"


def test_pod_template_that_kubernetes_refuses_is_said_in_the_status(operators: Operators, pools: WorkerPools) -> None:
    operator = operators.start()
    pools.apply(workerCount=1, template={"spec": {"containers": [{"name": "sidecar"}]}})
    accepted = eventually(lambda: pools.condition("Accepted"))
    assert (accepted["status"], accepted["reason"]) == ("False", "SpecRefused")
    assert "spec.template.spec.containers[1].image: Required value" in accepted["message"]
    pools.patch(template=None)
    pools.wait_for_replicas(1)
    eventually(lambda: pools.condition("Accepted")["status"] == "True")
    # What Kubernetes would take, and the kernel would end.
    worker = {"name": "worker", "env": [{"name": "WORKER_JOB_MEMORY_MIB", "value": "600"}]}
    pools.patch(template={"spec": {"containers": [worker]}})
    eventually(lambda: pools.condition("Accepted")["reason"] == "MemoryTooLow")
    assert "the pod's memory limit is 512 MiB" in pools.condition("Accepted")["message"]
    pools.patch(template=None)
    eventually(lambda: pools.condition("Accepted")["status"] == "True")
    operator.stop()
    assert not any("exception" in each for each in operator.said())


MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "misspelt": ({"nodeselector": {"disk": "ssd"}}, "nodeselector: field not declared in schema"),
    "number": ({"containers": [{"name": "worker", "env": [{"name": "A", "value": 1}]}]}, ""),
    "variables": ({"containers": [{"name": "worker", "env": {"A": "1"}}]}, ""),
    "containers": ({"containers": "worker"}, ""),
    "replaced": ({"$patch": "replace", "nodeSelector": {"disk": "ssd"}}, ""),
    "limits": ({"containers": [{"name": "worker", "resources": {"limits": "512Mi"}}]}, ""),
    "selector": ({"nodeSelector": ["ssd"]}, ""),
    "quantity": ({"containers": [{"name": "worker", "resources": {"requests": {"cpu": "lots"}}}]}, ""),
}
"""Specs of pod templates that the definition of WorkerPools can't refuse, with a part of what Kubernetes says."""


def test_malformed_template_is_said_in_the_status_and_keeps_no_other_pool_from_its_pods(
    operators: Operators, pools: WorkerPools
) -> None:
    operator = operators.start()
    items = [
        workerpool(name, {"workerCount": "cpus", "template": {"spec": spec}}) for name, (spec, _) in MALFORMED.items()
    ]
    pools.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    eventually(lambda: all(pools.condition("Accepted", name) for name in MALFORMED))
    pools.apply(workerCount=1)
    pools.wait_for_replicas(1)
    said = {name: pools.condition("Accepted", name) for name in MALFORMED}
    assert {name: each["reason"] for name, each in said.items()} == dict.fromkeys(MALFORMED, "SpecRefused")
    assert [name for name, (_, part) in MALFORMED.items() if part not in said[name]["message"]] == []
    operator.stop()
    assert not any("exception" in each for each in operator.said())


def test_deployment_of_somebody_else_is_not_taken(operators: Operators, pools: WorkerPools) -> None:
    pools.kubectl("create", "deployment", "workerjobs-pool-default", "--image=example.invalid/web", "--replicas=0")
    operators.start()
    pools.apply(workerCount=3)
    accepted = eventually(lambda: pools.condition("Accepted"))
    assert (accepted["status"], accepted["reason"]) == ("False", "NotOurs")
    assert pools.replicas() == 0
    pools.kubectl("delete", "deployment", "workerjobs-pool-default")
    pools.wait_for_replicas(3)
    eventually(
        lambda: (
            pools.events()
            == {
                ("Warning", "Refused", accepted["message"]),
                ("Normal", "Accepted", "The spec is accepted"),
                ("Normal", "Scaled", "From 0 to 3: workerCount is 3"),
            }
        )
    )


# --- cpus


def test_cpus_without_the_right_to_read_nodes_is_said_and_the_number_stays(
    operators: Operators, pools: WorkerPools, restricted_kubeconfig: str
) -> None:
    pools.kubectl("create", "role", "ours", "--verb=list,watch,get,patch", "--resource=workerjobs.quickdapp.xyz,workerpools.quickdapp.xyz,workerjobs.quickdapp.xyz/status,workerpools.quickdapp.xyz/status")  # fmt: skip  # noqa: E501
    pools.kubectl("create", "role", "pods", "--verb=list,patch", "--resource=pods")
    pools.kubectl("create", "role", "deployments", "--verb=get,create,patch", "--resource=deployments.apps")
    for role in ("ours", "pods", "deployments"):
        pools.kubectl("create", "rolebinding", role, f"--role={role}", f"--serviceaccount={pools.namespace}:default")
    operators.start(KUBECONFIG=restricted_kubeconfig, WORKERJOBS_CLUSTER_ID="restricted")
    pools.apply(workerCount=2)
    pools.wait_for_replicas(2)
    pools.patch(workerCount="cpus")
    status = pools.wait_for_status(reason="NodesUnreadable")
    assert status["desired"] == 2
    accepted = pools.condition("Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "NodesUnreadable")
    assert "nodes is forbidden" in accepted["message"]
    assert pools.replicas() == 2


# --- auto


def test_auto_pool_follows_its_jobs_from_none_to_some_and_back(
    operators: Operators, pools: WorkerPools, database_url: str
) -> None:
    operator = operators.start()
    pools.apply(workerCount="auto", maxWorkers=3, scaling={"scaleDownSeconds": 1})
    pools.wait_for_replicas(0)
    assert pools.wait_for_status(desired=0)["reason"] == "NoJobs"
    time.sleep(1)  # it is at rest
    submit(database_url)
    pools.wait_for_replicas(1)
    (scaled,) = eventually(lambda: [each for each in operator.said() if "from 0 to 1" in each["message"]])
    ((submitted,),) = sql(database_url, 'select max("createdAt") from "workerJobs"')
    assert datetime.fromisoformat(scaled["timestamp"]) - submitted <= timedelta(seconds=2)
    submit(database_url, 200)
    pools.wait_for_replicas(3)
    status = pools.wait_for_status(desired=3, backlog=201)
    assert status["reason"] == "AtMaximum"
    assert status["message"].startswith("201 jobs due, 0 running: about 201 s of work, for 7 children within 30 s")
    # Whoever can't ask the cluster reads it in the table.
    told = 'select name, desired, reason from "workerPools"'
    eventually(lambda: sql(database_url, told) == [("default", 3, "AtMaximum")])
    submit(database_url, 5, pool="another")
    sql(
        database_url,
        'update "workerJobs" set started = now(), finished = now(), success = true where pool = %s',
        "default",
    )
    pools.wait_for_replicas(0)
    assert pools.wait_for_status(desired=0)["reason"] == "NoJobs"


def test_auto_pool_is_there_for_jobs_that_become_due_soon(
    operators: Operators, pools: WorkerPools, database_url: str
) -> None:
    operators.start()
    submit(database_url, due="now() + interval '1 hour'")
    pools.apply(workerCount="auto", scaling={"dueSoonSeconds": 20})
    pools.wait_for_replicas(0)
    submit(database_url, due="now() + interval '19 seconds'")
    pools.wait_for_replicas(1)
    assert pools.wait_for_status(desired=1)["reason"] == "DueSoon"


# --- shrinking


def test_pool_shrinks_by_idle_pods_and_those_whose_jobs_have_ended(
    operators: Operators, pools: WorkerPools, database_url: str
) -> None:
    operator = operators.start()
    pools.apply(workerCount=3)
    long, short, idle = pods = pools.wait_for_pods(3)
    for pod in pods:
        pools.make_ready(pod)
    # One has jobs for long, one for a moment: their types have been measured.
    sql(
        database_url,
        """
        insert into "workerJobs" (type, started, finished, success)
        values ('long', now() - interval '1 hour', now(), true), ('short', now() - interval '5 seconds', now(), true)
        """,
    )
    owners = {
        "long": show_worker(database_url, long, running=1, job_type="long"),
        "short": show_worker(database_url, short, running=1, job_type="short"),
        "idle": show_worker(database_url, idle),
    }
    pools.kubectl("wait", "--for=condition=Ready", "wp/default", "--timeout=50s")
    pools.wait_for_status(busy=2, idle=1)
    # The container of the busiest has been begun anew, in the middle of a drain: its last worker seems to live yet.
    dead = show_worker(database_url, long, boot="dead")
    sql(
        database_url,
        """
        update "workerJobWorkers" set "startedAt" = now() - interval '1 hour', "drainReasons" = '{ScaleDown}'
        where owner = %s
        """,
        dead,
    )
    pools.patch(workerCount=1)
    marked = {owners["short"], owners["idle"]}
    eventually(
        lambda: {owner for owner, why in drain_reasons(database_url).items() if why == ["ScaleDown"]} == marked | {dead}
    )
    time.sleep(1.5)  # a look or two: nobody has said that it takes no more jobs
    assert pools.replicas() == 3

    obey(database_url)
    pools.wait_for_replicas(2)
    assert {pod["metadata"]["uid"] for pod in pools.wait_for_pods(2)} == {
        pod["metadata"]["uid"] for pod in (long, short)
    }
    status = pools.wait_for_status(replicas=2, draining=1)
    assert status["desired"] == 1
    assert status["message"] == "workerCount is 1; 1 pod finishes its jobs first"
    # In the middle of it another operator goes on.
    operator.kill()
    operators.start()
    finish_jobs(database_url, owners["short"])
    pools.wait_for_replicas(1)
    (left,) = pools.wait_for_pods(1)
    assert left["metadata"]["uid"] == long["metadata"]["uid"]
    assert drain_reasons(database_url)[owners["long"]] == []


def test_new_demand_lets_draining_pods_go_on(operators: Operators, pools: WorkerPools, database_url: str) -> None:
    operators.start()
    pools.apply(workerCount=2)
    pods = pools.wait_for_pods(2)
    for pod in pods:
        pools.make_ready(pod)
        show_worker(database_url, pod, running=1)
    pools.wait_for_status(busy=2)
    pools.patch(workerCount=0)
    eventually(lambda: all(drain_reasons(database_url).values()))
    pools.wait_for_status(draining=2)
    pools.patch(workerCount=2)
    eventually(lambda: not any(drain_reasons(database_url).values()))
    assert pools.wait_for_status(draining=0)["desired"] == 2
    assert {pod["metadata"]["uid"] for pod in pools.pods()} == {pod["metadata"]["uid"] for pod in pods}
    # One that was evicted stays in the cluster, and is nothing of the pool any more.
    status = {"status": {"phase": "Failed", "reason": "Evicted"}}
    name = pods[0]["metadata"]["name"]
    pools.kubectl("patch", f"pod/{name}", "--subresource=status", "--type=merge", f"--patch={json.dumps(status)}")
    pools.wait_for_pods(3)
    assert pools.wait_for_status(replicas=2, ready=1, draining=0)["desired"] == 2


def test_nothing_shrinks_while_a_busy_pod_is_not_ready(
    operators: Operators, pools: WorkerPools, database_url: str
) -> None:
    operators.start()
    pools.apply(workerCount=2)
    busy, idle = pools.wait_for_pods(2)
    pools.make_ready(idle)
    show_worker(database_url, busy, running=1)
    show_worker(database_url, idle)
    pools.wait_for_status(ready=1, busy=1)
    pools.patch(workerCount=1)
    eventually(lambda: drain_reasons(database_url)[f"{idle['metadata']['uid']}/boot"])
    obey(database_url)
    eventually(lambda: "is not ready, and would go first" in pools.status().get("message", ""))
    assert pools.replicas() == 2
    pools.make_ready(busy)
    pools.wait_for_replicas(1)
    (left,) = pools.wait_for_pods(1)
    assert left["metadata"]["uid"] == busy["metadata"]["uid"]


# --- the command line


def ask(pools: WorkerPools, *arguments: str) -> str:
    """Run `workerjobs pool`; returns what it prints."""
    ended = ask_anything(pools, *arguments)
    assert ended.returncode == 0, ended.stderr
    return str(ended.stdout)


def ask_anything(pools: WorkerPools, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {"KUBECONFIG": str(pools.cluster.kubeconfig)}
    return workerjobs("pool", *arguments, "-n", pools.namespace, database_url=None, variables=variables)


@pytest.mark.slow
def test_pools_are_looked_at_and_changed_by_commands(operators: Operators, pools: WorkerPools) -> None:
    operators.start()
    pools.apply(workerCount=2, maxWorkers=9)
    pools.wait_for_status(desired=2)
    assert ask(pools, "scale", "default", "1") == (
        f"The pool {pools.namespace}/default is scaled to 1, within maxWorkers 9\n"
    )
    pools.wait_for_replicas(1)
    (listed,) = json.loads(ask(pools, "list", "-o", "json"))
    assert (listed["namespace"], listed["name"], listed["spec"]["replicas"]) == (pools.namespace, "default", 1)
    assert ask(pools, "release", "default") == f"The pool {pools.namespace}/default is released: workerCount 2 rules\n"
    pools.wait_for_replicas(2)
    ask(pools, "pause", "default")
    pools.wait_for_status(reason="Paused", desired=0)
    shown = ask(pools, "show", "default")
    assert "The pool is paused" in shown
    assert "paused" in ask(pools, "list")
    ask(pools, "resume", "default")
    pools.wait_for_status(reason="FixedNumber", desired=2)
    missing = ask_anything(pools, "release", "none")
    assert (missing.returncode, missing.stderr) == (
        1,
        "Error: There is no WorkerPool none in that namespace: see `workerjobs pool list -A`\n",
    )
    assert ask_anything(pools, "scale", "default", "2000").returncode == 2


# --- the default pool


@pytest.mark.slow
def test_default_pool_is_made_from_the_configuration_and_keeps_what_people_changed(
    operators: Operators, pools: WorkerPools, tmp_path: Path
) -> None:
    def template(zone: str) -> dict[str, Any]:
        labels = {"disk": "ssd", "example.org/zone": zone}
        return {"metadata": {"annotations": {"team": "a"}}, "spec": {"nodeSelector": labels}}

    file = tmp_path / "pool.yaml"
    file.write_text(json.dumps({"workerCount": 1, "slots": 2, "drainSeconds": 30, "template": template("a")}))
    settings = {"WORKERJOBS_DEFAULT_POOL": str(file)}
    first = operators.start(**settings)
    pools.wait_for_replicas(1)
    made = {"workerCount": 1, "slots": 2, "drainSeconds": 30, "template": template("a")}
    assert pools.read("wp", "default")["spec"] == made
    pools.patch(slots=4, template={"spec": {"nodeSelector": {"example.org/zone": "b"}}})
    first.stop()
    # WORKER_COUNT overrides the file; what somebody set stays theirs, alone, and what was configured goes.
    file.write_text(json.dumps({"workerCount": 1, "slots": 3, "maxWorkers": 5, "template": template("a")}))
    second = operators.start(**settings, WORKER_COUNT="2")
    pools.wait_for_replicas(2)
    told = "are left as somebody set them: slots, template.spec.nodeSelector.example.org/zone"
    eventually(lambda: any(told in each["message"] for each in second.said()))
    kept = {"workerCount": 2, "slots": 4, "maxWorkers": 5, "template": template("b")}
    assert pools.read("wp", "default")["spec"] == kept
    second.stop()
    # Deleted, it comes back at the next start, as it is configured.
    pools.kubectl("delete", "wp", "default", "--wait=false")
    operators.start(**settings)
    pools.kubectl("wait", "--for=create", "wp/default", "--timeout=50s")
    anew = {"workerCount": 1, "slots": 3, "maxWorkers": 5, "template": template("a")}
    assert pools.read("wp", "default")["spec"] == anew
    assert (first.complaints(), second.complaints()) == ([], [])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("workerCount: many", 'workerCount is \'many\': give a whole number from 0 to 1000, "cpus" or "auto"'),
        ("minWorkers: 3\nmaxWorkers: 2", "minWorkers must not be above maxWorkers"),
        ("- 1", "holds no object: give a pool's spec"),
        ("a: [", "can't be read"),
    ],
)
def test_configuration_that_is_no_pool_ends_the_operator_with_a_sentence(
    operators: Operators, tmp_path: Path, text: str, sentence: str
) -> None:
    file = tmp_path / "pool.yaml"
    file.write_text(text)
    operator = operators.start(WORKERJOBS_DEFAULT_POOL=str(file))
    assert operator.wait() == 2
    assert sentence in operator.log.read_text()
    assert "Traceback" not in operator.log.read_text()


# --- what the API server refuses

POD = {"spec": {"nodeSelector": {"a": "b"}}}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("a word for a count", {"workerCount": "many"}, 'must be a whole number from 0 to 1000, "cpus" or "auto"'),
    ("a number in quotes", {"workerCount": "3"}, 'must be a whole number from 0 to 1000, "cpus" or "auto"'),
    ("too many", {"workerCount": 1001}, "workerCount must be a whole number from 0 to 1000"),
    ("fewer than none", {"workerCount": -1}, "workerCount must be a whole number from 0 to 1000"),
    ("half a pod", {"workerCount": 1.5}, "spec.workerCount in body must be of type"),
    ("a list of counts", {"workerCount": [1]}, "spec.workerCount in body must be of type"),
    ("negative replicas", {"replicas": -1}, "spec.replicas in body should be greater than or equal to 0"),
    ("replicas as text", {"replicas": "2"}, "spec.replicas in body must be of type integer"),
    ("too many replicas", {"replicas": 1001}, "should be less than or equal to 1000"),
    ("no maximum", {"maxWorkers": 0}, "should be greater than or equal to 1"),
    ("minimum above the maximum", {"minWorkers": 3, "maxWorkers": 2}, "minWorkers must not be above maxWorkers"),
    ("no slots", {"slots": 0}, "should be greater than or equal to 1"),
    ("paused as text", {"paused": "yes"}, "spec.paused in body must be of type boolean"),
    ("empty pool", {"pool": " "}, "pool must not be empty: leave it out for the WorkerPool's own name"),
    ("pool with a line end", {"pool": "a\nb"}, "pool must not hold control characters such as line ends"),
    ("no types", {"types": []}, "spec.types in body should have at least 1 items"),
    ("types twice", {"types": ["a", "a"]}, "Duplicate value"),
    ("types with a comma", {"types": ["a,b"]}, "a job type must not be empty, nor hold control characters or commas"),
    ("no namespaces", {"namespaces": []}, "spec.namespaces in body should have at least 1 items"),
    ("a namespace in capitals", {"namespaces": ["Shop"]}, "a namespace must be made of lower-case letters"),
    ("negative drain", {"drainSeconds": -1}, "should be greater than or equal to 0"),
    ("drain for ever", {"drainSeconds": 86_401}, "should be less than or equal to 86400"),
    ("drain as text", {"drainSeconds": "30s"}, "spec.drainSeconds in body must be of type integer"),
    ("hardly any notice", {"spotNoticeSeconds": 5}, "should be greater than or equal to 10"),
    (
        "more notice than drain",
        {"spotNoticeSeconds": 120, "drainSeconds": 60},
        "spotNoticeSeconds must not be above drainSeconds",
    ),
    ("an image with blanks", {"image": "a b"}, "image must be the name of an image, without blanks"),
    ("a module with a comma", {"jobModules": ["a,b"]}, "a job module must not be empty, nor hold control characters"),
    ("a ConfigMap's path", {"jobsConfigMap": "a/b"}, "jobsConfigMap must be the name of a ConfigMap"),
    ("chain as text", {"chain": "mainnet"}, "spec.chain in body must be of type boolean"),
    ("scaling without auto", {"workerCount": 2, "scaling": {"targetSeconds": 9}}, "scaling needs workerCount: auto"),
    ("no time", {"workerCount": "auto", "scaling": {"targetSeconds": 0}}, "should be greater than or equal to 1"),
    ("no step", {"workerCount": "auto", "scaling": {"maxStepUp": 0}}, "should be greater than or equal to 1"),
    ("a template as text", {"template": "x"}, "spec.template in body must be of type object"),
    (
        "the operator's label",
        {"template": {"metadata": {"labels": {"quickdapp.xyz/pool": "x"}}}},
        "the label quickdapp.xyz/pool is the operator's: it selects the pool's pods by it",
    ),
    (
        "pods that run once",
        {"template": {"spec": {"restartPolicy": "Never"}}},
        "template.spec.restartPolicy must be Always: worker pods go on for ever",
    ),
    (
        "a grace period",
        {"template": {"spec": {"terminationGracePeriodSeconds": 5}}},
        "template.spec.terminationGracePeriodSeconds follows from drainSeconds: set that",
    ),
]  # fmt: skip
ACCEPTED: list[dict[str, Any]] = [
    {},
    {"workerCount": 0, "template": POD},
    {"workerCount": "cpus", "minWorkers": 2, "maxWorkers": 2},
    {
        "workerCount": "auto",
        "scaling": {"targetSeconds": 1, "dueSoonSeconds": 0, "scaleDownSeconds": 0, "maxStepUp": 1},
    },
    {"replicas": 0, "slots": 8, "pool": "gpu jobs", "types": ["report"], "namespaces": ["shop", "a-1"]},
    {"drainSeconds": 3600, "spotNoticeSeconds": 120, "image": "localhost:5000/jobs@sha256:00", "chain": True},
    {"jobModules": ["shop.jobs", "/app/jobs"], "jobsConfigMap": "our.jobs-1", "paused": False},
]


@pytest.fixture(scope="module")
def answers(request: pytest.FixtureRequest) -> dict[str, str]:
    """What kubectl prints for each of the refused manifests, asked for in one call."""
    cluster = request.getfixturevalue("cluster")
    request.getfixturevalue("definition")
    items = [workerpool(f"case-{number}", case[1]) for number, case in enumerate(REFUSED)]
    documents = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    options = ("--dry-run=server", "--validate=false")
    said = cluster.kubectl("apply", *options, "-f", "-", input=documents, check=False).stderr
    # One answer for each, of one line or several.
    return {name: text for text in said.split("Error from server") for name in re.findall(r'"(case-\d+)"', text)}


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[case[0] for case in REFUSED])
def test_malformed_pool_is_refused_with_a_sentence(answers: dict[str, str], number: int) -> None:
    _, _, sentence = REFUSED[number]
    assert sentence in answers[f"case-{number}"]


def test_pools_that_are_right_are_accepted(pools: WorkerPools) -> None:
    items = [workerpool(f"case-{number}", spec) for number, spec in enumerate(ACCEPTED)]
    documents = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    applied = pools.kubectl("apply", "--dry-run=server", "-f", "-", input=documents, check=False)
    assert applied.stderr == ""


def test_name_that_is_too_long_for_pods_is_refused(pools: WorkerPools) -> None:
    document = json.dumps(workerpool("a" * 41))
    refused = pools.kubectl("apply", "-f", "-", input=document, check=False)
    assert "the name of a WorkerPool may have 40 characters" in refused.stderr


def test_columns_are_those_that_people_look_for(pools: WorkerPools) -> None:
    pools.apply()
    names = pools.kubectl("get", "wp").stdout.splitlines()[0].split()
    assert names == ["NAME", "WORKERS", "DESIRED", "READY", "BUSY", "DRAINING", "BACKLOG", "REASON", "AGE"]
