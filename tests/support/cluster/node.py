"""A real Kubernetes node on this machine: the control plane, containerd, kubelet, kube-proxy and CoreDNS.

All of it lives in namespaces of its own (processes, mounts, network), as in a container, and so do its pods. Nothing of
the machine is changed but for a network interface and empty cgroups, and when the first process of these namespaces
ends, however it does, the kernel ends all the others and takes away mounts, interfaces and firewall rules. So several
nodes can run side by side.

The network of node N is 10.244.N.0/24, one bridge that pods, node and machine are on:

    10.244.N.1      the node: API server, DNS, the pods' gateway
    10.244.N.254    the machine, in its own namespace: what pods reach of it, here a Postgres
    the others      pods

Needs root on Linux, and Debian's packages (``PACKAGES``).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.cluster.binaries import find_binaries
from tests.support.cluster.components import Components, ControlPlaneError, end_with_parent
from tests.support.cluster.controlplane import Cluster, Ports, start_control_plane
from tests.support.cluster.images import Image, pause_image
from tests.support.cluster.modules import CONTAINERD, CONTROL_PLANE, COREDNS, RUNC
from workerjobs.storage.embedded import EmbeddedPostgres

PACKAGES = (
    *("containernetworking-plugins", "conntrack", "iptables", "nftables", "iproute2", "ethtool", "socat"),
    # To build runc.
    *("gcc", "libc6-dev", "libseccomp-dev", "pkg-config"),
)
MODULES = (CONTROL_PLANE, CONTAINERD, RUNC, COREDNS)
NAME = "workerjobs-node"

_MOST_NODES = 64
_SERVICES = "10.96.0.0/16"
_PLUGINS = Path("/usr/lib/cni")
_CGROUPS = Path("/sys/fs/cgroup")
_REPOSITORY = Path(__file__).parents[3]
_CLONE_NEWNS, _CLONE_NEWPID, _CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000
# kubernetes 1.37, pkg/kubelet/cm/container_manager_linux.go, setupKernelTunables.
_MACHINE_SETTINGS = (
    *("vm/overcommit_memory", "vm/panic_on_oom"),
    *("kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"),
)
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
_IMPORT_SECONDS = 300
# About 10 s on two idle cores.
_START_SECONDS = 180


def why_not() -> str | None:
    """Say in one sentence why this machine can run no node; None where it can, as far as one sees without trying."""
    if sys.platform != "linux":
        return f"a node needs Linux, and this is {sys.platform}"
    if os.geteuid() != 0:
        return "a node needs root, and this is another user"
    status = Path("/proc/self/status").read_text()
    capabilities = int(status.partition("CapEff:")[2].split()[0], 16)
    if missing := [name for name, bit in _CAPABILITIES.items() if not capabilities >> bit & 1]:
        return f"a node needs the whole of root, and this one lacks {', '.join(missing)}, as in a container"
    if not os.access(_CGROUPS, os.W_OK):
        return f"a node needs cgroups, and {_CGROUPS} cannot be written to"
    return None


def import_image(directory: Path, image: Image) -> None:
    """Give the node of ``directory`` an image, unless it has it.

    Raises:
        ControlPlaneError: It refuses.
    """
    if image.name not in _ctr(directory, "images", "list", "--quiet").split():
        _ctr(directory, "images", "import", str(image.archive))


def _ctr(directory: Path, *arguments: str) -> str:
    command = [str(find_binaries(CONTAINERD)["ctr"].path), f"--address={_socket(directory)}", "--namespace=k8s.io"]
    result = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=_IMPORT_SECONDS, check=False
    )
    if result.returncode != 0:
        raise ControlPlaneError(f"ctr {' '.join(arguments)} failed: {result.stderr.strip()}")
    return result.stdout


def database_url(directory: Path) -> str:
    """The URL, for pods and for the machine, of the Postgres beside the node of ``directory``."""
    return (directory / "database-url").read_text()


# --- outside of the node's namespaces ---


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Path]:
    """Start a node with its cluster in ``directory``, give its kubeconfig once it is ready, and stop it."""
    with contextlib.ExitStack() as stack:
        number = stack.enter_context(_reserved_number())
        stack.callback(_remove_cgroup, number)
        _make_cgroup(number)
        stack.callback(_delete_link, number)
        _delete_link(number)  # of a runner that was killed early
        _ip("link", "add", _link(number), "type", "veth", "peer", "name", _peer(number))
        _ip("address", "add", f"{_address(number, 254)}/24", "dev", _link(number))
        _ip("link", "set", _link(number), "up")
        # Without its file system's guarantees: it goes with the node.
        postgres = EmbeddedPostgres.ephemeral(
            listen=[f"{_address(number, 254)}/24"], settings={"fsync": "off", "full_page_writes": "off"}
        )
        stack.callback((directory / "database-url").unlink, missing_ok=True)
        stack.callback(postgres.stop)
        url = postgres.start().url_for(_address(number, 254))
        (directory / "database-url").touch(mode=0o600)
        (directory / "database-url").write_text(url)
        stack.callback(_remove_data, directory)
        _remove_data(directory)
        process = stack.enter_context(_first_process(directory, number))
        assert process.stdout is not None
        answer = process.stdout.read()
        if answer.splitlines()[-1:] != ["ready"]:
            raise ControlPlaneError(answer.partition("error: ")[2].strip() or answer or "the node ended without a word")
        yield directory / "pki" / "kubeconfig"


@contextlib.contextmanager
def _first_process(directory: Path, number: int) -> Iterator[subprocess.Popen[str]]:
    """The first process of the node's namespaces; with it everything in them ends."""
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int) -> None:
        if result != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def enter() -> None:
        end_with_parent()
        check(libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET))

    with Path("/proc/self/ns/net").open() as machine, Path("/proc/self/ns/pid").open() as own:
        # The next child is the first process of a new PID namespace; those after it are in this one's again.
        check(libc.unshare(_CLONE_NEWPID))
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.support.cluster", "inside-node"),
                directory,
                str(number),
                str(machine.fileno()),
            ],
            cwd=_REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=[machine.fileno()],
            start_new_session=True,
            preexec_fn=enter,  # the runner has one thread, so this is safe
        )
        check(libc.setns(own.fileno(), _CLONE_NEWPID))
    with process:
        try:
            yield process
        finally:
            # Its end is the end of all of them: the kernel lets nobody wait for it before.
            process.kill()


@contextlib.contextmanager
def _reserved_number() -> Iterator[int]:
    """A number that no other node on this machine has."""
    for number in range(_MOST_NODES):
        with (Path(tempfile.gettempdir()) / f"{NAME}-{number}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield number
            return
    raise ControlPlaneError(f"{_MOST_NODES} nodes run on this machine already")


def _address(number: int, host: int) -> str:
    return f"10.244.{number}.{host}"


def _link(number: int) -> str:
    return f"wjnode{number}"


def _peer(number: int) -> str:
    return f"wjnode{number}in"


def _socket(directory: Path) -> Path:
    return directory / "containerd.sock"


def _ip(*arguments: str) -> None:
    result = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ControlPlaneError(f"ip {' '.join(arguments)} failed: {result.stderr.strip()}")


def _delete_link(number: int) -> None:
    # The kernel deletes it with its peer's namespace, which a closing connection can keep for minutes.
    if Path(f"/sys/class/net/{_link(number)}").exists():
        subprocess.run(["ip", "link", "delete", _link(number)], capture_output=True, check=False)


def _cgroup_folders(number: int) -> list[Path]:
    # Version 2 has one tree, version 1 one for each controller.
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS / f"{NAME}-{number}"]
    return [tree / f"{NAME}-{number}" for tree in _CGROUPS.iterdir() if tree.is_dir() and not tree.is_symlink()]


def _make_cgroup(number: int) -> None:
    for folder in _cgroup_folders(number):
        folder.mkdir(exist_ok=True)
        if (control := folder / "cgroup.subtree_control").exists():
            for controller in (folder / "cgroup.controllers").read_text().split():
                control.write_text(f"+{controller}")


def _remove_cgroup(number: int) -> None:
    for folder in _cgroup_folders(number):
        for parent, _, _ in os.walk(folder, topdown=False):
            for _attempt in range(50):  # a while until the kernel has put away the last process
                try:
                    Path(parent).rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.02)


def _remove_data(directory: Path) -> None:
    for name in ("var-lib", "cni"):
        shutil.rmtree(directory / name, ignore_errors=True)
    _socket(directory).unlink(missing_ok=True)


# --- inside ---


def run_inside(directory: Path, number: int, machine: int) -> None:
    """Be the first process of the node: start all the others, say "ready", and hold them.

    Args:
        directory: The cluster's.
        number: The node's.
        machine: An open file of the machine's network namespace.

    Raises:
        ControlPlaneError: The node did not get ready; the message holds the end of the log that tells why.
    """
    try:
        _mount(directory)
        _connect(number, machine)
    except subprocess.CalledProcessError as error:
        raise ControlPlaneError(f"{' '.join(error.cmd)} failed: {error.stderr.strip()}") from error
    os.close(machine)
    components = _start(directory, number)
    print("ready", flush=True)
    with (directory / "log" / "node.log").open("w") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    names = {process.pid: name for name, process in components.processes.items()}
    while True:
        # The first process inherits what loses its parent: containerd's shims do.
        pid, status = os.wait()
        if pid in names:
            print(f"{names[pid]} ended with exit code {os.waitstatus_to_exitcode(status)}", flush=True)


def _run(*command: str, **options: Any) -> None:
    subprocess.run(command, capture_output=True, text=True, check=True, **options)


def _mount(directory: Path) -> None:
    """Put the node's own folders where its programs look by default."""
    _run("mount", "--make-rprivate", "/")
    # The kubelet's volumes have to get into the containers' mount namespaces.
    _run("mount", "--make-rshared", "/")
    _run("mount", "-t", "proc", "proc", "/proc")
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for name, place in (("var-lib", "/var/lib"), ("log/pods", "/var/log")):
        (directory / name).mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", str(directory / name), place)
    # The kubelet sets these, for the whole machine, which is not its own here: it gets files to write to.
    for setting in _MACHINE_SETTINGS:
        file = directory / "var-lib" / setting.replace("/", ".")
        file.write_bytes(Path("/proc/sys", setting).read_bytes())
        _run("mount", "--bind", str(file), f"/proc/sys/{setting}")


def _connect(number: int, machine: int) -> None:
    """Make the bridge that pods, node and machine are on."""
    inside = Path("/proc/self/fd", str(machine))
    # `ip` in the machine's network namespace, where the peer is; process 1 is this one, whose namespace gets it.
    _run("nsenter", f"--net={inside}", "ip", "link", "set", _peer(number), "netns", "1", pass_fds=[machine])
    for line in (
        "link set lo up",
        "link add bridge0 type bridge",
        f"address add {_address(number, 1)}/24 dev bridge0",
        f"link set {_peer(number)} master bridge0",
        f"link set {_peer(number)} up",
        "link set bridge0 up",
        f"route add default via {_address(number, 254)}",
    ):
        _run("ip", *line.split())
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _start(directory: Path, number: int) -> Components:
    gateway = _address(number, 1)
    programs = {name: binary.path for module in MODULES for name, binary in find_binaries(module).items()}
    path = os.pathsep.join(
        [*{str(program.parent) for program in programs.values()}, os.environ["PATH"], "/usr/sbin", "/sbin"]
    )
    pause = pause_image()
    # Its context is never left: this process has no other end than SIGKILL.
    components = Components(directory, _START_SECONDS, {"PATH": path})

    (directory / "cni").mkdir(exist_ok=True)
    (directory / "cni" / "10-bridge.conflist").write_text(json.dumps(_pod_network(number)))
    (directory / "containerd.toml").write_text(_containerd_configuration(directory, programs["runc"], pause.name))
    components.start(programs["containerd"], config=directory / "containerd.toml")
    kubeconfig = start_control_plane(
        components,
        Ports(2379, 2380, 6443),
        host=gateway,
        services=_SERVICES,
        kubelet_client_certificate=directory / "pki" / "admin.crt",
        kubelet_client_key=directory / "pki" / "admin.key",
        kubelet_preferred_address_types="InternalIP",
    )
    components.start(programs["kube-scheduler"], kubeconfig=kubeconfig, leader_elect="false", secure_port=0)
    components.wait("containerd", "open its socket", _socket(directory).exists)
    import_image(directory, pause)
    (directory / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet_configuration(directory, number)))
    components.start(
        programs["kubelet"],
        config=directory / "kubelet.yaml",
        kubeconfig=kubeconfig,
        hostname_override=NAME,
        node_ip=gateway,
    )
    components.start(
        programs["kube-proxy"],
        kubeconfig=kubeconfig,
        proxy_mode="nftables",
        hostname_override=NAME,
        bind_address=gateway,
        cluster_cidr=f"{_address(number, 0)}/24",
        # All pods are on one bridge: answers of a Service would go straight to a pod, past the translation back.
        masquerade_all="true",
        # The limit of connections is the machine's, and cannot be set from here.
        conntrack_max_per_core=0,
    )
    (directory / "Corefile").write_text(
        f".:53 {{\n  bind {gateway}\n  errors\n  kubernetes cluster.local {{\n    kubeconfig {kubeconfig}\n  }}\n}}\n"
    )
    components.start(programs["coredns"], conf=directory / "Corefile")
    cluster = Cluster(kubeconfig, directory / "kubectl-cache")
    condition = "--output=jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    components.wait(
        "kubelet",
        "get its node ready",
        lambda: cluster.kubectl("get", "node", NAME, condition, check=False).stdout == "True",
    )
    return components


def _pod_network(number: int) -> dict[str, Any]:
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "bridge0",
                "isGateway": True,
                "hairpinMode": True,
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [
                        [
                            {
                                "subnet": f"{_address(number, 0)}/24",
                                "rangeStart": _address(number, 2),
                                "rangeEnd": _address(number, 250),
                                "gateway": _address(number, 1),
                            }
                        ]
                    ],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
        ],
    }


def _containerd_configuration(directory: Path, runc: Path, pause: str) -> str:
    return f"""version = 3
[grpc]
  address = "{_socket(directory)}"
[plugins.'io.containerd.cri.v1.runtime']
  # runc cannot lower oom_score_adj without CAP_SYS_RESOURCE, which not every root has.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = "{runc}"
      SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{_PLUGINS}"]
    conf_dir = "{directory / "cni"}"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{pause}"
"""


def _kubelet_configuration(directory: Path, number: int) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": _address(number, 1),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(directory / "pki" / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{_socket(directory)}",
        "clusterDNS": [_address(number, 1)],
        "clusterDomain": "cluster.local",
        # Two nodes with the same root would remove each other's pods.
        "cgroupRoot": f"/{NAME}-{number}",
        "cgroupDriver": "cgroupfs",
        "enforceNodeAllocatable": [],
        # Kubernetes means to leave version 1 of cgroups behind; many machines have it.
        "failCgroupV1": False,
        "failSwapOn": False,
        # iptables rules of its own, which nothing here needs.
        "makeIPTablesUtilChains": False,
        # The disk is the machine's: how full it is, is none of the node's business.
        "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%", "memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        # The defaults suit a shared API server.
        "kubeAPIQPS": 500,
        "kubeAPIBurst": 1000,
    }
