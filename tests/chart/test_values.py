"""What the chart makes of values: good ones are taken, bad ones refused with a sentence, whoever reads it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.helm import CHART, TRIAL, HelmError, Manifest, find, helm, program, render
from workerjobs.kube.podspec import memory_problem
from workerjobs.kube.poolspec import CONTAINER, WorkerDefaults, pod_template
from workerjobs.kube.workerpool import WorkerPool, parse_spec

EXAMPLES = sorted((CHART / "ci").glob("*-values.yaml"))


def example(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text(encoding="utf-8"))
    return values


def nested(path: str, value: object) -> dict[str, Any]:
    """``a.b`` as ``{"a": {"b": value}}``."""
    for name in reversed(path.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_good_values_pass_the_linter_and_the_schema(values: Path) -> None:
    helm("lint", "--strict", str(CHART), "--values", str(values))
    assert render(yaml.safe_load(values.read_text(encoding="utf-8")))


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_operator_reads_the_pool_as_it_is_configured(values: Path) -> None:
    given = yaml.safe_load(values.read_text(encoding="utf-8"))
    manifests = render(given)
    (name,) = (
        each["metadata"]["name"]
        for each in manifests
        if each["kind"] == "ConfigMap" and "pool.yaml" in (each.get("data") or {})
    )
    configured = pool(manifests, name)
    spec = parse_spec("default", configured)
    wanted = {**yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["pool"], **given.get("pool", {})}
    assert (spec.pool, spec.worker_count, spec.slots) == ("default", wanted["workerCount"], wanted["slots"])
    assert spec.job_modules == tuple(wanted["jobModules"])
    found = WorkerPool("u", "jobs", "default", 1, spec, {})
    template = pod_template(found, WorkerDefaults())
    (worker,) = template["spec"]["containers"]
    assert worker["args"] == ["worker"]
    assert memory_problem(template["spec"], CONTAINER, spec.slots) is None


def test_suites_of_helm_unittest_pass() -> None:
    ran = subprocess.run([program("helm-unittest"), str(CHART)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


# What no schema or template of ours would refuse to take for something else.
BAD = [
    ("pool.workerCount", "many", "at '/pool/workerCount': value must be one of 'cpus', 'auto'"),
    ("pool.workerCount", -1, "at '/pool/workerCount': minimum: got -1, want 0"),
    ("pool.workerCount", 1.5, "at '/pool/workerCount': got number, want integer"),
    ("pool.workercount", 2, "at '/pool': additional properties 'workercount' not allowed"),
    ("pools", {}, "at '': additional properties 'pools' not allowed"),
    ("pool.slots", 0, "at '/pool/slots': minimum: got 0, want 1"),
    ("pool.minWorkers", 5000, "at '/pool/minWorkers': maximum: got 5,000, want 1,000"),
    ("pool.drainSeconds", "45s", "at '/pool/drainSeconds': got string, want integer"),
    ("pool.types", "a,b", "at '/pool/types': got string, want array"),
    ("pool.types", ["a", "a"], "at '/pool/types': items at 0 and 1 are equal"),
    ("pool.namespaces", ["Shop"], "at '/pool/namespaces/0': 'Shop' does not match pattern"),
    ("pool.logLevel", "loud", "at '/pool/logLevel': value must be one of 'trace', 'debug', 'info', 'warn', 'error'"),
    ("pool.resources", {"requests": {"cpu": "lots"}}, "at '/pool/resources/requests/cpu': 'lots' does not match"),
    ("pool.resources", {"request": {}}, "at '/pool/resources': additional properties 'request' not allowed"),
    ("pool.extraEnv", [{"value": "1"}], "at '/pool/extraEnv/0': missing property 'name'"),
    ("pool.extraEnv", {"A": "1"}, "at '/pool/extraEnv': got object, want array"),
    ("pool.extraEnv", [{"name": "A", "value": 1}], "at '/pool/extraEnv/0/value': got number, want string"),
    ("pool.extraVolumes", [{"name": "a"}], "at '/pool/extraVolumes/0': minProperties: got 1, want 2"),
    ("pool.extraVolumeMounts", [{"name": "a"}], "at '/pool/extraVolumeMounts/0': missing property 'mountPath'"),
    ("pool.pdb", {"maxUnavailable": "a few"}, "at '/pool/pdb/maxUnavailable': 'a few' does not match pattern"),
    (
        "pool.jobFiles",
        {"shop.txt": ""},
        'pool.jobFiles: "shop.txt" is no Python module: give names such as shop_jobs.py',
    ),
    ("pool", {"minWorkers": 5, "maxWorkers": 2}, "pool.minWorkers (5) is above pool.maxWorkers (2)"),
    (
        "pool.extraSpec",
        {"spotNoticeSeconds": 120},
        "pool.extraSpec.spotNoticeSeconds (120) is above pool.drainSeconds (45), which it is to cut short: raise that",
    ),
    ("operator.replicas", 0.5, "at '/operator/replicas': got number, want null or integer"),
    ("image.pullPolicy", "Sometimes", "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"),
    ("image.digest", "sha256:1", "at '/image/digest': 'sha256:1' does not match pattern"),
    ("imagePullSecrets", ["registry"], "at '/imagePullSecrets/0': got string, want object"),
    ("namespaces", ["*"], "at '/namespaces/0': '*' does not match pattern"),
    ("crds.install", "yes", "at '/crds/install': got string, want boolean"),
    ("networkPolicy.enabled", "yes", "at '/networkPolicy/enabled': got string, want boolean"),
    ("server.replicas", -1, "at '/server/replicas': minimum: got -1, want 0"),
    ("server.trustedProxies", ["nginx"], "at '/server/trustedProxies/0': 'nginx' does not match pattern"),
    ("server.allowedOrigins", ["app.example"], "at '/server/allowedOrigins/0': 'app.example' does not match pattern"),
    ("server.ingress.hosts", ["https://a.example"], "at '/server/ingress/hosts/0': 'https://a.example' does not match"),
    ("server.ingress", {"enabled": True}, "server.ingress.enabled needs server.ingress.hosts, such as [jobs.example"),
    (
        "server",
        {"enabled": False, "ingress": {"enabled": True, "hosts": ["a.example"]}},
        "server.ingress.enabled leads to the server: it needs server.enabled=true",
    ),
    (
        "server.signedInBy.userHeader",
        "X-Forwarded-User",
        "server.signedInBy.userHeader is believed from listed peers alone: give server.trustedProxies",
    ),
    ("service.port", 0, "at '/service/port': minimum: got 0, want 1"),
    ("autoscaling.mode", "vpa", "at '/autoscaling/mode': value must be one of 'none', 'hpa', 'keda'"),
    (
        "autoscaling",
        {"minReplicas": 5, "maxReplicas": 2},
        "autoscaling.minReplicas (5) is above autoscaling.maxReplicas",
    ),
    (
        "autoscaling",
        {"mode": "hpa", "minReplicas": 0},
        "autoscaling.minReplicas has to be 1 or more with autoscaling.mode=hpa: a HorizontalPodAutoscaler never starts",
    ),
    ("autoscaling.keda.trigger", "cron", "at '/autoscaling/keda/trigger': value must be one of 'metrics-api'"),
    ("chain.factoryContractAddress", "0x12", "at '/chain/factoryContractAddress': '0x12' does not match pattern"),
    ("chain", {"enabled": True}, "chain.enabled needs chain.existingSecret, a Secret with the RPC URLs"),
    ("metrics.podMonitor.interval", "often", "at '/metrics/podMonitor/interval': 'often' does not match pattern"),
    (
        "commonLabels",
        {"app.kubernetes.io/part-of": "shop"},
        "commonLabels: app.kubernetes.io/part-of is the chart's own, by which its objects are found: leave it out",
    ),
    ("extraObjects", [1], "at '/extraObjects/0': got number, want string or object"),
]


@pytest.mark.parametrize(("path", "value", "sentence"), BAD, ids=[f"{path}={value}" for path, value, _ in BAD])
def test_bad_values_are_refused_with_a_sentence(path: str, value: object, sentence: str) -> None:
    with pytest.raises(HelmError) as refused:
        render({**TRIAL, **nested(path, value)})
    assert sentence in str(refused.value)


def test_all_problems_of_databases_are_said_at_once_and_no_password_is_repeated() -> None:
    with pytest.raises(HelmError, match=r"there is no database: give database.existingSecret"):
        render({"postgres": {"enabled": False}})
    values = {"database": {"url": "mysql://me:hunter2@db/x", "existingSecret": "mine"}, "postgres": {"enabled": True}}
    with pytest.raises(HelmError) as refused:
        render(values)
    for sentence in (
        "- database.existingSecret and database.url exclude each other",
        "- database.url is not accepted: give postgresql://user:password@host:port/name",
        "- postgres.enabled makes a Postgres for trying out",
    ):
        assert sentence in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_workers_by_nodes_need_the_right_to_read_them() -> None:
    with pytest.raises(HelmError, match=r"pool.workerCount=cpus counts the nodes' CPUs: it needs rbac.nodes=true"):
        render({"pool": {"workerCount": "cpus"}, "rbac": {"nodes": False}})


# --- what stands in what is made


def containers(manifests: list[Manifest]) -> list[tuple[Manifest, Manifest]]:
    """All pods' specs with each of their containers; of the pool, too."""
    pods = [each["spec"]["template"]["spec"] for each in manifests if each["kind"] == "Deployment"]
    pods += [each["spec"] for each in manifests if each["kind"] == "Pod"]
    pods.append(pool(manifests)["template"]["spec"])
    return [(pod, container) for pod in pods for container in pod["containers"]]


def pool(manifests: list[Manifest], name: str = "workerjobs-pool") -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load(find(manifests, "ConfigMap", name)["data"]["pool.yaml"])
    return spec


def test_all_pods_keep_the_pod_security_standard_restricted() -> None:
    found = containers(render({}))
    assert [container["name"] for _, container in found] == [
        "operator",
        "postgres",
        "server",
        "test",
        "test-server",
        "worker",
    ]
    for pod, container in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}


def test_only_the_operator_has_a_token() -> None:
    tokens = {container["name"]: pod["automountServiceAccountToken"] for pod, container in containers(render({}))}
    assert tokens == {
        "operator": True,
        "postgres": False,
        "server": False,
        "test": False,
        "test-server": False,
        "worker": False,
    }


def test_rights_name_what_they_are_for() -> None:
    roles = [each for each in render({}) if each["kind"] in ("Role", "ClusterRole")]
    assert len(roles) == 8
    for role in roles:
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            assert not {"roles", "pods/exec", "serviceaccounts/token"} & set(rule["resources"])
        # Secrets are for workers alone, in namespaces where that role is bound.
        may_read_secrets = any("secrets" in rule["resources"] for rule in role["rules"])
        assert may_read_secrets == (role["metadata"]["name"] == "workerjobs-data")


def test_every_name_follows_the_full_name_and_fits() -> None:
    long = "a" * 60
    names = {
        each["metadata"]["name"] for each in render({"fullnameOverride": long}) if "crd" not in each["kind"].lower()
    }
    ours = {name for name in names if name.startswith("a")}
    assert names - ours == {"workerjobs.quickdapp.xyz", "workerpools.quickdapp.xyz"} & names
    assert max(map(len, ours)) <= 63


def test_names_that_yaml_would_take_for_something_else_stay_names() -> None:
    values = {**TRIAL, "namespaces": ["2026"], "rbac": {"dataFromNamespaces": ["2026"]}}
    text = helm("template", "2024", str(CHART), "--namespace", "2025", values=values)
    manifests = [each for each in yaml.safe_load_all(text) if each]
    for each in manifests:
        metadata = each["metadata"]
        labels = dict(metadata["labels"])
        if "spec" in each and "template" in each["spec"]:
            labels |= each["spec"]["template"]["metadata"]["labels"]
        assert {type(value) for value in (metadata.get("namespace", ""), *labels.values())} == {str}, metadata
        for subject in each.get("subjects", ()):
            assert subject["namespace"] == "2025"
    assert (
        pool(manifests, "2024-workerjobs-pool")["template"]["metadata"]["labels"]["app.kubernetes.io/instance"]
        == "2024"
    )
    operator = find(manifests, "Deployment", "2024-workerjobs-operator")["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "WORKERJOBS_NAMESPACES", "value": "2025,2026"} in operator["env"]


def test_services_of_a_release_whose_name_has_dots_have_names_without() -> None:
    text = helm("template", "jobs.v1", str(CHART), "--namespace", "jobs", values=TRIAL)
    services = {each["metadata"]["name"] for each in yaml.safe_load_all(text) if each and each["kind"] == "Service"}
    assert services == {f"jobs-v1-workerjobs-{name}" for name in ("operator", "server", "postgres")}


def test_two_releases_share_no_cluster_wide_name() -> None:
    def names(release: str) -> set[tuple[str, str]]:
        text = helm(
            "template", release, str(CHART), "--namespace", release, values={**TRIAL, "crds": {"install": False}}
        )
        found = [each for each in yaml.safe_load_all(text) if each]
        return {(each["kind"], each["metadata"]["name"]) for each in found if "namespace" not in each["metadata"]}

    assert names("workerjobs")
    assert not names("workerjobs") & names("other")


def test_helm_test_leaves_out_a_server_that_a_proxy_stands_before() -> None:
    manifests = render({"server": {"service": {"targetPort": "proxy"}}})
    assert [each["name"] for each in find(manifests, "Pod", "workerjobs-test")["spec"]["containers"]] == ["test"]


def test_everything_reaches_the_pool() -> None:
    spec = pool(render(example("everything")), "jobs-pool")
    assert spec["workerCount"] == "auto"
    assert (spec["minWorkers"], spec["maxWorkers"], spec["slots"], spec["drainSeconds"]) == (0, 50, 4, 600)
    assert spec["image"] == "registry.example.org/shop/jobs:7"
    assert spec["jobModules"] == ["shop.jobs"]
    assert spec["chain"] is True
    pod = spec["template"]["spec"]
    (worker,) = pod["containers"]
    assert {"secretRef": {"name": "chain"}} in worker["envFrom"]
    assert pod["nodeSelector"] == {"karpenter.sh/nodepool": "workers"}
    assert [each["name"] for each in pod["volumes"]] == ["scratch"]
