"""The Deployment of a WorkerPool, built from its spec and from what the operator gives all workers: pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workerjobs.kube.merge import merge
from workerjobs.kube.workerpool import API_VERSION, KIND, POOL_LABEL, WorkerPool

CONTAINER = "worker"
JOBS_FOLDER = "/jobs"
GRACE_MARGIN_SECONDS = 15
"""Beyond a worker's grace: 5 s from SIGTERM to SIGKILL for the jobs that are left, and some for giving them back."""
DIGEST_ANNOTATION = "quickdapp.xyz/pool-digest"
"""What the Deployment was made from, so that a look can tell whether it is that still."""
_HEALTH_PORT = 8090


@dataclass(frozen=True, slots=True)
class WorkerDefaults:
    """What the operator gives the workers of all pools."""

    cluster_id: str | None = None
    image: str = "workerjobs"
    database_secret: str = "workerjobs-database"  # noqa: S105  # its name
    """A Secret of the pool's namespace."""
    database_url_key: str = "url"
    """Its key of DATABASE_URL."""
    database_direct_url_key: str = "directUrl"
    """Its key of DATABASE_DIRECT_URL, where it has one."""
    chain_secret: str = "workerjobs-chain"  # noqa: S105  # its name
    """A Secret of the pool's namespace, whose keys are the WEB3_* variables."""
    chain_variables: Mapping[str, str] = field(default_factory=dict)
    """More of these, for pools with chains."""
    service_account: str | None = None
    """Of the pool's namespace; None: its default one, without a token."""
    log_level: str = "info"


def pod_template(pool: WorkerPool, defaults: WorkerDefaults) -> dict[str, Any]:
    """Build the pod template: the operator's own, with the WorkerPool's template merged into it."""
    spec = pool.spec
    variables = {
        "DATABASE_WAIT_SECONDS": "600",
        "WORKER_COUNT": str(spec.slots),
        "WORKER_POOL": spec.pool,
        "WORKER_GRACE_SECONDS": str(spec.grace_seconds),
        "WORKER_LOG_LEVEL": defaults.log_level,
        "WORKER_HEALTH_HOST": "::",  # the kubelet's probes come from outside of the pod, by either family
        "WORKER_HEALTH_PORT": str(_HEALTH_PORT),
    }
    folders = [JOBS_FOLDER] if spec.jobs_config_map is not None else []
    for name, values in (
        ("WORKER_JOB_MODULES", (*spec.job_modules, *folders)),
        ("WORKER_TYPES", spec.types),
        ("WORKER_NAMESPACES", spec.namespaces),
    ):
        if values:
            variables[name] = ",".join(values)
    if defaults.cluster_id is not None:
        variables["WORKERJOBS_CLUSTER_ID"] = defaults.cluster_id
    if spec.is_chain:
        variables |= defaults.chain_variables
    environment: list[dict[str, Any]] = [
        {"name": "DATABASE_URL", "valueFrom": _of_secret(defaults.database_secret, defaults.database_url_key)},
        {
            "name": "DATABASE_DIRECT_URL",
            "valueFrom": _of_secret(defaults.database_secret, defaults.database_direct_url_key, optional=True),
        },
        {"name": "POD_UID", "valueFrom": _of_field("metadata.uid")},
        {"name": "POD_NAME", "valueFrom": _of_field("metadata.name")},
        {"name": "POD_NAMESPACE", "valueFrom": _of_field("metadata.namespace")},
        {"name": "NODE_NAME", "valueFrom": _of_field("spec.nodeName")},
        *({"name": name, "value": value} for name, value in variables.items()),
    ]
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108  # an emptyDir of the pod's own
    if spec.jobs_config_map is not None:
        volumes.append({"name": "jobs", "configMap": {"name": spec.jobs_config_map}})
        mounts.append({"name": "jobs", "mountPath": JOBS_FOLDER, "readOnly": True})
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": spec.image or defaults.image,
        "args": ["worker"],
        "env": environment,
        "ports": [{"name": "health", "containerPort": _HEALTH_PORT}],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "health"}},
        # Once started always ready: a database outage would make busy pods the first ones to be taken away.
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "health"}},
        # While it waits for the database nothing answers yet.
        "startupProbe": {
            "httpGet": {"path": "/healthz", "port": "health"},
            "periodSeconds": 2,
            "failureThreshold": 330,
        },
        "resources": {"requests": {"cpu": "250m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    if spec.is_chain:
        container["envFrom"] = [{"secretRef": {"name": defaults.chain_secret}}]
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": spec.grace_seconds + GRACE_MARGIN_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }
    if defaults.service_account is not None:
        pod["serviceAccountName"] = defaults.service_account
    template = merge({"metadata": {"labels": pool.selector}, "spec": pod}, dict(spec.template))
    # Whatever the patch says: by these the pods are found.
    template["metadata"]["labels"] |= pool.selector
    return dict(template)


def deployment(pool: WorkerPool, template: Mapping[str, Any], replicas: int) -> dict[str, Any]:
    """Build the Deployment, as it is applied; fields that are not in it are left to others.

    It belongs to the WorkerPool: it is removed with it, by the cluster itself.
    """
    manifest: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": pool.deployment,
            "namespace": pool.namespace,
            "labels": {**pool.selector, "app.kubernetes.io/managed-by": "workerjobs-operator"},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "name": pool.name,
                    "uid": pool.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": pool.selector},
            # One at a time in place, so that a new template also comes through where no node has room for one more.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}},
            "template": template,
        },
    }
    manifest["metadata"]["annotations"] = {DIGEST_ANNOTATION: digest(manifest)}
    return manifest


def digest(manifest: Mapping[str, Any]) -> str:
    """Tell two Deployments apart, but for the number of their replicas."""
    spec = {name: value for name, value in manifest["spec"].items() if name != "replicas"}
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]


def selector_text(pool: WorkerPool) -> str:
    """The label selector of a pool's pods, as the scale subresource gives it."""
    return ",".join(f"{name}={value}" for name, value in sorted(pool.selector.items()))


def pod_selector(name: str) -> str:
    """The label selector of a pool's pods, as lists take it."""
    return f"{POOL_LABEL}={name}"


def _of_secret(name: str, key: str, *, optional: bool = False) -> dict[str, Any]:
    reference: dict[str, Any] = {"name": name, "key": key}
    if optional:
        reference["optional"] = True
    return {"secretKeyRef": reference}


def _of_field(path: str) -> dict[str, Any]:
    return {"fieldRef": {"fieldPath": path}}
