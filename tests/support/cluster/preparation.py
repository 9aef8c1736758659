"""Getting all that a node with WorkerJobs needs: Debian packages, programs and images."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.support.cluster import images, node
from tests.support.cluster.binaries import BinariesError, find_binaries
from tests.support.cluster.modules import HELM
from tests.support.cluster.sources import Report, report_to_stderr
from tests.support.packages import PackagesError, install_packages


class CannotRunPodsError(Exception):
    """This machine cannot run a node; the message says why."""


def prepare_node(report: Report = report_to_stderr) -> images.Image:
    """Get all that is missing; what can go on side by side does.

    Returns:
        The project's image.

    Raises:
        CannotRunPodsError: This machine cannot, or something is not to be had here.
    """
    if reason := node.why_not():
        raise CannotRunPodsError(reason)
    try:
        install_packages([*dict.fromkeys([*node.PACKAGES, *images.PACKAGES])])
        with ThreadPoolExecutor() as pool:
            programs = pool.submit(_get_programs, report)
            pause = pool.submit(images.pause_image)
            image = images.project_image(report)
            pause.result()
            programs.result()
    except (BinariesError, images.ImagesError, PackagesError) as error:
        raise CannotRunPodsError(str(error)) from error
    return image


def _get_programs(report: Report) -> None:
    # One after the other: a build uses all CPUs. The images beside it wait for the network and the disk.
    for module in (*node.MODULES, HELM):
        find_binaries(module, report=report)
