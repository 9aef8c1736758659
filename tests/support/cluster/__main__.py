"""The test cluster for a person and for the Makefile: get its programs, start one, stop it."""

import argparse
import sys
from pathlib import Path

from tests.support import packages
from tests.support.cluster import (
    binaries,
    components,
    controlplane,
    demo,
    images,
    installation,
    modules,
    node,
    preparation,
)


def main() -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.cluster",
        description="A Kubernetes API without nodes, for tests: etcd, kube-apiserver and kube-controller-manager.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    get = commands.add_parser(
        "binaries",
        help="get programs and print where they came from",
        description=binaries.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    get.add_argument(
        "modules",
        metavar="MODULE",
        nargs="*",
        type=_module,
        help=f"all programs of {', '.join(modules.MODULES)}; left out, those of a cluster without nodes",
    )
    up = commands.add_parser(
        "up",
        help="start a cluster and return when it is ready",
        description="Start a cluster that runs until `down DIR`. "
        "WORKERJOBS_TEST_KUBECONFIG=DIR/kubeconfig makes tests use it.",
    )
    down = commands.add_parser(
        "down", help="stop a cluster", description="Stop the cluster of DIR and delete its data."
    )
    run = commands.add_parser(
        "run",
        help="run a cluster in the foreground until interrupted",
        description="Run a cluster until it is interrupted or terminated. This is the process that `up` leaves behind.",
    )
    up_node = commands.add_parser("up-node", help="the same for a cluster with a node that runs pods")
    run_node = commands.add_parser("run-node", help="the same for a cluster with a node that runs pods")
    for command in (up, up_node, down, run, run_node):
        command.add_argument("directory", metavar="DIR", type=Path, help="folder of its kubeconfig, data and logs")
    for command in (up, up_node, run, run_node):
        command.add_argument("--lease", metavar="FILE", type=Path, help="stop once no process holds a lock on FILE")
    commands.add_parser("prepare-node", help="get what a node needs, or say why this machine runs none")
    commands.add_parser(
        "demo", help="WorkerJobs with its samples on a real node, or in the cluster of a kubeconfig (`make cluster`)"
    )
    commands.add_parser("demo-down", help="end that node")
    inside = commands.add_parser("inside-node", help="what run-node starts in the node's namespaces")
    inside.add_argument("directory", metavar="DIR", type=Path)
    inside.add_argument("number", type=int)
    inside.add_argument("machine", type=int)
    arguments = parser.parse_args()

    try:
        if arguments.command == "binaries":
            wanted = [(module, tuple(module.packages)) for module in arguments.modules]
            for module, names in wanted or [(modules.CONTROL_PLANE, binaries.API_PROGRAMS)]:
                for name, binary in binaries.find_binaries(module, names).items():
                    print(f"{name}: {binary.path} ({binary.source})")
        elif arguments.command == "up":
            controlplane.up(arguments.directory.absolute(), lease=arguments.lease)
            print(f"export KUBECONFIG={arguments.directory.absolute() / 'kubeconfig'}")
        elif arguments.command == "up-node":
            controlplane.up(arguments.directory.absolute(), lease=arguments.lease, command="run-node")
            print(f"export KUBECONFIG={arguments.directory.absolute() / 'kubeconfig'}")
        elif arguments.command == "prepare-node":
            try:
                preparation.prepare_node()
            except preparation.CannotRunPodsError as error:
                print(f"The tests with pods are left out: {error}", file=sys.stderr)
        elif arguments.command == "run":
            controlplane.run(arguments.directory.absolute(), lease=arguments.lease)
        elif arguments.command == "demo":
            demo.up()
        elif arguments.command == "demo-down":
            demo.down()
        elif arguments.command == "run-node":
            controlplane.run(arguments.directory.absolute(), lease=arguments.lease, cluster=node.running)
        elif arguments.command == "inside-node":
            node.run_inside(arguments.directory, arguments.number, arguments.machine)
        else:
            controlplane.down(arguments.directory.absolute())
    except (
        binaries.BinariesError,
        components.ControlPlaneError,
        demo.DemoError,
        images.ImagesError,
        installation.InstallationError,
        packages.PackagesError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _module(name: str) -> modules.Module:
    try:
        return modules.MODULES[name]
    except KeyError:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(modules.MODULES)}") from None


if __name__ == "__main__":
    sys.exit(main())
