"""`make chaos-pods`: pods come and go while their jobs run, and no job notices.

Beside `make cluster`. A pool is shrunk, its Deployment is scaled down behind the operator's back, its template changes,
and pods are deleted and evicted, a hundred times in all and one over the other, while its workers are kept busy with
jobs of 2 to 20 s. Then every row and every trace is looked at: each job succeeded in its first run, on the pod that
says so, and had no other. Exit code 1, with what was found, where that is not so.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.cluster import demo, node
from tests.support.cluster.controlplane import Cluster
from tests.support.cluster.fixtures import JOB_FILES
from tests.support.cluster.installation import NAMESPACE
from tests.support.operators import eventually
from tests.support.pod_pool import PodPool, pod_pool
from tests.support.table import sql

MOST_PODS = 8
"""Pods that are there at once, also those that end: then the next disturbance waits."""
SLOTS = 2
GRACE_MARGIN_SECONDS = 10
_VIOLATIONS = """
select j.id, 'is not finished' from "workerJobs" as j where j.pool = %s and j.finished is null
union all
select j.id, 'failed: ' || (j.result ->> 'error') from "workerJobs" as j where j.pool = %s and not j.success
union all
select j.id, 'was given back or lost: ' || coalesce(j."lostReason", 'its worker stopped') from "workerJobs" as j
where j.pool = %s and (j.rescues > 0 or j."lostReason" is not null or j.attempt > 1)
union all
select j.id, 'began ' || count(t.job_id) || ' times' from "workerJobs" as j left join traces as t on t.job_id = j.id
where j.pool = %s group by j.id having count(t.job_id) <> 1
union all
select j.id, 'has the result of another run' from "workerJobs" as j join traces as t on t.job_id = j.id
where j.pool = %s and j.success and (t.ended is null or t.pod <> j.result #>> '{}')
"""


@dataclass
class Chaos:
    """One run over one pool.

    Args:
        pool: With `SLOTS` children a pod, and a grace period longer than its longest job.
        shortest, longest: Seconds that jobs take.
        random: Where chance comes from.
    """

    pool: PodPool
    shortest: float
    longest: float
    random: random.Random
    submitted: int = 0
    done: Counter[str] = field(default_factory=Counter)

    def run(self, rounds: int) -> list[str]:
        """Disturb so many times, and let the jobs end; returns what is wrong, nothing as it should be."""
        disturbances: list[tuple[str, Callable[[], None]]] = [
            ("pool shrunk or grown", self._resize),
            ("pods deleted", self._delete),
            ("pods evicted", self._evict),
            ("Deployments scaled down", self._scale_deployment),
            ("templates changed", self._change_template),
        ]
        for number in range(rounds):
            self._keep_busy()
            eventually(self._has_room, every=0.3)
            name, disturb = disturbances[number % len(disturbances)]
            disturb()
            self.done[name] += 1
            time.sleep(self.random.uniform(0.5, 2))
        unfinished = 'select count(*) from "workerJobs" where pool = %s and finished is null'
        eventually(
            lambda: sql(self.pool.database_url, unfinished, self.pool.name) == [(0,)],
            seconds=60 + 3 * self.longest,
            every=0.3,
        )
        return self._violations()

    def _keep_busy(self) -> None:
        """Let more jobs wait than there are children."""
        unfinished = 'select count(*) from "workerJobs" where pool = %s and finished is null'
        ((waiting,),) = sql(self.pool.database_url, unfinished, self.pool.name)
        for _ in range(4 * SLOTS - waiting):
            self.pool.submit(self.random.uniform(self.shortest, self.longest))
            self.submitted += 1

    def _has_room(self) -> bool:
        """Whether some pods are ready, and not too many are there."""
        listed = self.pool.kubectl("get", "pods", f"--selector=quickdapp.xyz/pool={self.pool.name}", "--no-headers")
        pods = [line.split() for line in listed.splitlines()]
        ready = [words for words in pods if words[1] == "1/1" and "Terminating" not in words]
        return len(pods) <= MOST_PODS and len(ready) >= 2

    def _resize(self) -> None:
        now = int(self.pool.status().get("desired", 3))
        self.pool.change(workerCount=self.random.choice([number for number in (2, 3, 4) if number != now]))

    def _delete(self) -> None:
        pod = self.random.choice(self.pool.pods())
        self.pool.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")

    def _evict(self) -> None:
        """As `kubectl drain` does, which asks again where a PodDisruptionBudget is used up."""
        eventually(self._is_evicted, every=1)

    def _is_evicted(self) -> bool:
        pod = self.random.choice(self.pool.pods())["metadata"]
        about = {"name": pod["name"], "namespace": pod["namespace"]}
        path = f"/api/v1/namespaces/{about['namespace']}/pods/{about['name']}/eviction"
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": about}
        evicted = self.pool.cluster.kubectl(
            "create", f"--raw={path}", "-f", "-", input=json.dumps(eviction), check=False
        )
        return evicted.returncode == 0

    def _scale_deployment(self) -> None:
        """Past the operator, which chooses no pod and drains none then."""
        self.pool.kubectl("scale", f"deployment/workerjobs-pool-{self.pool.name}", "--replicas=1")

    def _change_template(self) -> None:
        self.pool.change(template={"metadata": {"annotations": {"changed": str(self.submitted)}}})

    def _violations(self) -> list[str]:
        found = sql(self.pool.database_url, _VIOLATIONS, *[self.pool.name] * 5)
        wrong = [f"job {job_id} {what}" for job_id, what in found]
        ((rows,),) = sql(self.pool.database_url, 'select count(*) from "workerJobs" where pool = %s', self.pool.name)
        if rows != self.submitted:
            wrong.append(f"{self.submitted} jobs were submitted, and there are {rows} rows")
        return wrong


def main() -> int:
    """Disturb a pool of the cluster that `make cluster` brought up."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.pods", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="how many disturbances")
    parser.add_argument("--longest", type=float, default=20.0, help="seconds of the longest job")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeats the choices of a run")
    arguments = parser.parse_args()
    cluster, url = Cluster(demo.directory() / "kubeconfig"), node.database_url(demo.directory())
    files = {file.name: file.read_text(encoding="utf-8") for file in JOB_FILES}
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "chaos-jobs", "namespace": NAMESPACE},
        "data": files,
    }
    cluster.kubectl("apply", "--filename=-", input=json.dumps(manifest))
    print(f"{arguments.rounds} disturbances, jobs of 2 to {arguments.longest:g} s, seed {arguments.seed}", flush=True)
    began = time.monotonic()
    drain = int(arguments.longest) + GRACE_MARGIN_SECONDS
    with pod_pool(cluster, url, workerCount=3, slots=SLOTS, drainSeconds=drain, jobsConfigMap="chaos-jobs") as pool:
        pool.wait(ready=3)
        chaos = Chaos(pool, 2, arguments.longest, random.Random(arguments.seed))
        wrong = chaos.run(arguments.rounds)
    print(f"{chaos.submitted} jobs in {time.monotonic() - began:.0f} s; {dict(chaos.done)}")
    for line in wrong:
        print(line)
    print(f"{len(wrong)} are not as they should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
