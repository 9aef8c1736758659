"""manifests/install, and the chart's README and definitions, as they should be: ``python -m tests.support.manifests``.

manifests/install is what the chart holds with ``manifests/values.yaml``, without what only Helm needs. The README lists
what ``values.yaml`` says of each value. The definitions are those of manifests/crds.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

from tests.support.grafana import dashboard_text
from tests.support.helm import CHART, REPOSITORY, documents, program, render_text

MANIFESTS = REPOSITORY / "manifests"
DEFINITIONS = MANIFESTS / "crds"

_FILES = {
    "10-rbac.yaml": (
        ("rbac.yaml",),
        "What the operator may do, and people. Workers may do nothing: they have no token. For jobs with\n"
        "# dataFrom bind the ClusterRole workerjobs-data to their account, in each namespace whose WorkerJobs use\n"
        "# it, and give them the token: automountServiceAccountToken in 40-pool.yaml.",
    ),
    "20-postgres.yaml": (
        ("database.yaml", "postgres.yaml"),
        "A Postgres for trying WorkerJobs out: one pod, and data that go with it. For anything else leave this file\n"
        "# out, and let the Secret workerjobs-database hold the `url` of your own Postgres (14 or newer).",
    ),
    "30-operator.yaml": (("operator.yaml",), "The operator: two pods, of which one is active."),
    "35-server.yaml": (
        ("server.yaml",),
        "The server: the dashboard, the HTTP API, and notifications. It starts once there is a Secret with its token:\n"
        "#   kubectl create secret generic workerjobs-server -n workerjobs \\\n"
        "#     --from-literal=token=$(openssl rand -hex 32)",
    ),
    "40-pool.yaml": (
        ("pool.yaml",),
        "The default pool. After a change: kubectl rollout restart deployment/workerjobs-operator -n workerjobs",
    ),
    "50-network.yaml": (("networkpolicy.yaml",), "What may reach the pods."),
}
_NAMESPACE = """\
# WorkerJobs in a namespace of its own: operator, workers, and a Postgres for trying it out.
#   kubectl apply -f manifests/crds -f manifests/install
#   kubectl create secret generic workerjobs-server -n workerjobs --from-literal=token=$(openssl rand -hex 32)
# The second command makes the server's token; until there is one the server's pod waits, and all else works.
# These files are made from charts/workerjobs and manifests/values.yaml by `make manifests`.
apiVersion: v1
kind: Namespace
metadata:
  name: workerjobs
  labels:
    app.kubernetes.io/part-of: workerjobs
    pod-security.kubernetes.io/enforce: restricted
"""
MONITORING = MANIFESTS / "monitoring"
_MONITORS = (
    "# For the Prometheus operator: who is asked for metrics, and the alert rules (the same as in rules.yaml).\n"
)
_DASHBOARD = "# The Grafana dashboard (the same as dashboard.json) for Grafana's sidecar.\n"
_KUSTOMIZATION = """\
# All of the installation, for `kubectl apply -k` and as a base for overlays of your own. The samples are not in it, nor
# what is in autoscaling/.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
"""
_ONLY_HELMS = re.compile(r"^ *(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n", re.MULTILINE)


def expected_files() -> dict[Path, str]:
    """All generated files with their content."""
    values = yaml.safe_load((MANIFESTS / "values.yaml").read_text(encoding="utf-8"))
    rendered = list(documents(render_text(values, "--skip-tests")))
    files = {MANIFESTS / "install" / "00-namespace.yaml": _NAMESPACE}
    for name, (templates, heading) in _FILES.items():
        texts = [_ONLY_HELMS.sub("", text) for template, text in rendered if template in templates]
        files[MANIFESTS / "install" / name] = f"# {heading}\n" + "---\n".join(texts)
    unplaced = {template for template, _ in rendered}.difference(*(templates for templates, _ in _FILES.values()))
    assert not unplaced, f"no file of manifests/install is for {unplaced}"
    installed = sorted(path.relative_to(MANIFESTS) for path in (*DEFINITIONS.iterdir(), *files))
    files[MANIFESTS / "kustomization.yaml"] = _KUSTOMIZATION + "".join(f"  - {path}\n" for path in installed)
    files[CHART / "README.md"] = readme()
    files[CHART / "files" / "dashboard.json"] = dashboard_text()
    files |= _monitoring()
    for source in DEFINITIONS.iterdir():
        files[CHART / "files" / "crds" / source.name] = source.read_text(encoding="utf-8")
    return files


def _monitoring() -> dict[Path, str]:
    """manifests/monitoring: what the chart has on request, for installations without Helm, and as plain files."""
    on = {name: {"enabled": True} for name in ("podMonitor", "prometheusRule", "dashboard")}
    values = yaml.safe_load((MANIFESTS / "values.yaml").read_text(encoding="utf-8")) | {"metrics": on}
    objects = [
        _ONLY_HELMS.sub("", text) for template, text in documents(render_text(values)) if template == "metrics.yaml"
    ]
    return {
        MONITORING / "rules.yaml": (CHART / "files" / "alerts.yaml").read_text(encoding="utf-8"),
        MONITORING / "dashboard.json": dashboard_text(),
        MONITORING / "prometheus-operator.yaml": _MONITORS
        + "---\n".join(text for text in objects if "\nkind: ConfigMap\n" not in text),
        MONITORING / "grafana-dashboard.yaml": _DASHBOARD
        + "---\n".join(text for text in objects if "\nkind: ConfigMap\n" in text),
    }


def readme() -> str:
    """The chart's README, made from README.md.gotmpl and the comments of values.yaml."""
    command = [program("helm-docs"), "--dry-run", "--sort-values-order=file", f"--chart-search-root={CHART}"]
    made = subprocess.run([*command, "--log-level=error"], capture_output=True, text=True, check=True)
    return made.stdout.strip() + "\n"


def existing_files() -> set[Path]:
    """All files of the folders whose files are all generated."""
    return {*(MANIFESTS / "install").iterdir(), *(CHART / "files" / "crds").iterdir(), *_in(MONITORING)}


def _in(folder: Path) -> set[Path]:
    return set(folder.iterdir()) if folder.is_dir() else set()


def main() -> None:
    """Write them."""
    # What the chart holds is rendered with it.
    (CHART / "files" / "dashboard.json").write_text(dashboard_text(), encoding="utf-8")
    expected = expected_files()
    for path in existing_files() - expected.keys():
        path.unlink()
    for path, text in expected.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
