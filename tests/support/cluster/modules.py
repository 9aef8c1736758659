"""The Go modules whose programs tests use: each is a folder of ``tests/support/tools`` that pins them, with a go.sum.

To add a program, add its folder (``go mod init``, ``go get -tool PACKAGE``, ``go mod tidy``) and its line here, in
``MODULES`` too.
"""

import hashlib
import platform
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

TOOLS = Path(__file__).parents[1] / "tools"


@dataclass(frozen=True)
class Module:
    """A Go module and what is built from it.

    Attributes:
        folder: Holds ``go.mod`` and ``go.sum``. Its name is the module's, here and in the cache.
        source: The path, as it stands in ``go.mod``, of the module whose version is that of the programs.
        packages: For each program the package that it is built from.
        tags: Build tags.
        cgo: Whether parts of it are in C, so that a C compiler is needed; others are static and need none.
        version_variables: String variables of Go that the build sets: to ``{version}``, as in v1.2.3, or to its parts
            ``{major}`` and ``{minor}``.
        first_build: How long a person waits for the first build on two cores.
    """

    folder: Path
    source: str
    packages: Mapping[str, str]
    tags: Collection[str] = ()
    cgo: bool = False
    version_variables: Mapping[str, str] = field(default_factory=dict)
    first_build: str = "2 to 6 minutes"

    @property
    def name(self) -> str:
        """The name for people and for the cache."""
        return self.folder.name

    @property
    def version(self) -> str:
        """The pinned version of the programs, with its leading ``v``."""
        return self.pinned(self.source)

    @property
    def oldest_go(self) -> str:
        """The oldest toolchain that builds the module, as in ``1.26.0``."""
        return self._find(r"(?m)^go\s+(\S+)")

    def pinned(self, path: str) -> str:
        """Read the version of any module that this one pins, with its leading ``v``."""
        return self._find(rf"(?m)^(?:require)?\s*{re.escape(path)}\s+(\S+)")

    def cache_key(self) -> str:
        """Name the cached programs by everything that decides what they are."""
        digest = hashlib.sha256(f"{sys.platform} {platform.machine()}\n".encode())
        for name in ("go.mod", "go.sum"):
            digest.update((self.folder / name).read_bytes())
        return f"{self.version}-{digest.hexdigest()[:16]}"

    def _find(self, pattern: str) -> str:
        match = re.search(pattern, (self.folder / "go.mod").read_text())
        assert match, f"go.mod of {self.name} has no {pattern}"
        return match[1]


_KUBERNETES_VERSION = "k8s.io/component-base/version."
CONTROL_PLANE = Module(
    TOOLS / "controlplane",
    "k8s.io/kubernetes",
    {
        "etcd": "go.etcd.io/etcd/server/v3",
        "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
        "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
        "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
        "kubelet": "k8s.io/kubernetes/cmd/kubelet",
        "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
    },
    version_variables={
        f"{_KUBERNETES_VERSION}gitVersion": "{version}",
        f"{_KUBERNETES_VERSION}gitMajor": "{major}",
        f"{_KUBERNETES_VERSION}gitMinor": "{minor}",
    },
    first_build="7 to 20 minutes",
)
CONTAINERD = Module(
    TOOLS / "containerd",
    "github.com/containerd/containerd/v2",
    {
        name: f"github.com/containerd/containerd/v2/cmd/{name}"
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
    # Snapshotters that nobody here uses; btrfs needs headers of C.
    tags=("no_btrfs", "no_zfs", "no_devmapper"),
)
RUNC = Module(
    TOOLS / "runc",
    "github.com/opencontainers/runc",
    {"runc": "github.com/opencontainers/runc"},
    # Without it no pod with the profile RuntimeDefault starts. Needs the headers of libseccomp, and pkg-config.
    tags=("seccomp",),
    cgo=True,
    first_build="half a minute",
)
COREDNS = Module(TOOLS / "coredns", "github.com/coredns/coredns", {"coredns": "github.com/coredns/coredns"})
HELM = Module(TOOLS / "helm", "helm.sh/helm/v4", {"helm": "helm.sh/helm/v4/cmd/helm"})
HELM_UNITTEST = Module(
    TOOLS / "helm-unittest",
    "github.com/helm-unittest/helm-unittest",
    {"helm-unittest": "github.com/helm-unittest/helm-unittest/cmd/helm-unittest"},
)
HELM_DOCS = Module(
    TOOLS / "helm-docs",
    "github.com/norwoodj/helm-docs",
    {"helm-docs": "github.com/norwoodj/helm-docs/cmd/helm-docs"},
    version_variables={"main.version": "{version}"},
)
KUBECONFORM = Module(
    TOOLS / "kubeconform",
    "github.com/yannh/kubeconform",
    {"kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform"},
    first_build="half a minute",
)

KARPENTER = Module(
    # With the provider that it is developed with, whose nodes exist in the API alone.
    TOOLS / "karpenter",
    "sigs.k8s.io/karpenter",
    {"karpenter": "sigs.k8s.io/karpenter/kwok"},
    first_build="4 minutes",
)
KEDA = Module(
    TOOLS / "keda",
    "github.com/kedacore/keda/v2",
    {f"keda-{name}": f"github.com/kedacore/keda/v2/cmd/{name}" for name in ("operator", "adapter")},
    first_build="10 minutes",
)
METRICS_SERVER = Module(
    TOOLS / "metrics-server",
    "sigs.k8s.io/metrics-server",
    {"metrics-server": "sigs.k8s.io/metrics-server/cmd/metrics-server"},
)
KWOK = Module(TOOLS / "kwok", "sigs.k8s.io/kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"})

MODULES = {
    module.name: module
    for module in (
        *(CONTROL_PLANE, CONTAINERD, RUNC, COREDNS, HELM, HELM_UNITTEST, HELM_DOCS, KUBECONFORM),
        *(KARPENTER, KEDA, KWOK, METRICS_SERVER),
    )
}
"""All of them by their names."""
