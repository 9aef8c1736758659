"""The operator over kopf: its only home. Events say what there is to look at; everything else is `mirror`'s.

kopf runs in a thread with a loop of its own: in the main thread it takes over the process's signal handlers, and when
it ends it cancels all tasks of its loop that began after it (kopf 1.45). It ends when the API refuses something, and
is started again then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, cast

import kopf

from workerjobs.errors import ClusterError
from workerjobs.kube import workerpool
from workerjobs.kube.client import load_credentials, version_of
from workerjobs.kube.election import Election
from workerjobs.kube.mirror import Mirror
from workerjobs.kube.pools import Pools
from workerjobs.kube.workerjob import GROUP, PLURAL, VERSION
from workerjobs.kube.workerpods import WorkerPods
from workerjobs.ports.notices import Notice, NoticeSource

log = logging.getLogger(__name__)

RESTART_SECONDS = 2.0
STOP_SECONDS = 10.0


async def run(
    mirror: Mirror,
    notices: NoticeSource,
    pools: Pools,
    pods: WorkerPods,
    namespaces: Sequence[str],
    stop: asyncio.Event,
    election: Election | None,
    begin: Callable[[], Awaitable[None]],
) -> None:
    """Run the operator until ``stop`` is set.

    Who stands by watches as the leader does, so that it knows everything when it takes over, and acts on nothing.

    Args:
        mirror: Told of events of WorkerJobs.
        notices: What the database announces.
        pools: Told of events of WorkerPools.
        pods: Looks after the workers in pods.
        namespaces: Watched ones; none means all.
        stop: Ends it.
        election: Says when to act; None: at once.
        begin: Done before anything else is, once this one acts.

    Raises:
        LeadershipLostError: It acted, and may not any more.
    """
    watch = Watch(
        namespaces,
        {
            PLURAL: lambda kind, manifest: _tell(mirror.resource_seen, mirror.resource_deleted, kind, manifest),
            workerpool.PLURAL: lambda kind, manifest: _tell(pools.pool_seen, pools.pool_deleted, kind, manifest),
        },
    )

    async def act() -> None:
        if election is not None:
            await election.leads.wait()
        await begin()
        heard = _Overheard(notices, pools.notice)
        await _together(mirror.run(), mirror.listen(heard), pods.run(), pools.run())

    always = [mirror.live(), *pods.watching()]
    if election is None:
        always.append(watch.run(mirror.is_watchable))
    else:
        always += [watch.run(mirror.is_listable), election.run()]
    await _together(act(), *always, until=stop)


async def _together(*parts: Coroutine[Any, Any, None], until: asyncio.Event | None = None) -> None:
    """Run parts that go on for ever, until an event is set or one of them fails, whose error is raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    waiting: set[asyncio.Task[Any]] = set(tasks)
    if until is not None:
        waiting.add(asyncio.create_task(until.wait()))
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                # None of them ends by itself, but by a defect.
                task.result()
    finally:
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)


OnEvent = Callable[[str | None, Mapping[str, Any]], None]


def _tell(
    seen: Callable[[Mapping[str, Any], int], None],
    deleted: Callable[[str], None],
    kind: str | None,
    manifest: Mapping[str, Any],
) -> None:
    if kind == "DELETED":
        deleted(manifest["metadata"]["uid"])
    else:
        seen(manifest, version_of(manifest))


class _Overheard:
    """Notices that somebody else hears as well."""

    def __init__(self, source: NoticeSource, hear: Callable[[Notice], None]) -> None:
        self._source = source
        self._hear = hear

    @property
    def is_listening(self) -> bool:
        """See `NoticeSource.is_listening`."""
        return self._source.is_listening

    async def notices(self) -> AsyncIterator[Notice]:
        """See `NoticeSource.notices`."""
        async for notice in self._source.notices():
            self._hear(notice)
            yield notice


class Watch:
    """Watches our resources, and tells of each event in the loop that it was made for.

    Args:
        namespaces: Watched ones; none means all.
        on_event: For each kind of resource, by its plural name: told the event's type (``DELETED``, ``ADDED``,
            ``MODIFIED``; None for what is there at the start) and the resource's manifest.
    """

    def __init__(self, namespaces: Sequence[str], on_event: Mapping[str, OnEvent]) -> None:
        self._namespaces = namespaces
        self._on_event = on_event

    async def run(self, is_ready: Callable[[], Awaitable[None]]) -> None:
        """Watch until cancelled, again after each trouble.

        Args:
            is_ready: Awaited before each start; kopf never sees a kind of resource that the cluster makes known later,
                as without rights to watch definitions it looks once.
        """
        loop = asyncio.get_running_loop()
        with _kopf_log_in_our_words():
            while True:
                await is_ready()
                stop, ended = threading.Event(), asyncio.Event()
                thread = threading.Thread(target=self._run_thread, args=(loop, stop, ended), name="kopf", daemon=True)
                thread.start()
                try:
                    await ended.wait()
                finally:
                    stop.set()
                    await asyncio.shield(asyncio.to_thread(thread.join, STOP_SECONDS))
                await asyncio.sleep(RESTART_SECONDS)

    def _run_thread(self, loop: asyncio.AbstractEventLoop, stop: threading.Event, ended: asyncio.Event) -> None:
        try:
            asyncio.run(self._watch(loop, stop))
        except Exception as error:  # noqa: BLE001  # whatever ends kopf is said, and it is started again
            log.warning("Watching the cluster was interrupted: %s", _brief(error))
        finally:
            with contextlib.suppress(RuntimeError):  # the other loop may be closed
                loop.call_soon_threadsafe(ended.set)

    async def _watch(self, loop: asyncio.AbstractEventLoop, stop: threading.Event) -> None:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def log_in(**_: Any) -> kopf.ConnectionInfo:
            return await _connection()

        def tell_of(plural: str, on_event: OnEvent) -> None:
            # Only low-level events: handlers for changes would put finalizers and annotations onto the resources.
            @kopf.on.event(GROUP, VERSION, plural, registry=registry)
            async def tell(event: Mapping[str, Any], **_: Any) -> None:
                loop.call_soon_threadsafe(on_event, event["type"], event["object"])

        for plural, on_event in self._on_event.items():
            tell_of(plural, on_event)

        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        # Without watching definitions and namespaces, which would need rights to list them in the whole cluster.
        settings.scanning.disabled = True
        settings.watching.chunk_size = 500
        settings.persistence.diffbase_storage = _NothingToCompare()
        settings.networking.error_backoffs = [1, 2, 5]
        settings.queueing.exit_timeout = 0.1  # to pass on an event takes microseconds
        settings.process.ultimate_exiting_timeout = None
        # What kopf leaves behind of a failed start is said once, by what it raises.
        asyncio.get_running_loop().set_exception_handler(lambda _, context: log.debug("kopf: %s", context["message"]))
        try:
            await kopf.operator(
                registry=registry,
                settings=settings,
                standalone=True,
                # kopf 1.45 would name itself after the user, who need not have a name in a container. Its type for
                # this, a str, is not exported.
                identity="workerjobs",  # type: ignore[arg-type]
                clusterwide=not self._namespaces,
                namespaces=list(self._namespaces),
                stop_flag=stop,
            )
        finally:
            # kopf waits for it in a thread, which this thread's end waits for.
            stop.set()


class _NothingToCompare(kopf.DiffBaseStorage):
    """What kopf compares an object with, to find its changes, for handlers of changes: there are none.

    The base class copies every object through and through for it, a fifth of what kopf does for an event (1.45).
    """

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:
        """Nothing."""
        return cast("kopf.BodyEssence", {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Nothing."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep nothing."""


async def _connection() -> kopf.ConnectionInfo:
    try:
        found = await load_credentials()
    except ClusterError as error:
        raise kopf.LoginError(str(error)) from error
    scheme, _, token = (found.authorization or "").partition(" ")
    return kopf.ConnectionInfo(
        server=found.server,
        ca_path=found.ca_path,
        insecure=found.is_insecure,
        certificate_path=found.certificate_path,
        private_key_path=found.key_path,
        scheme=scheme or None,
        token=token or None,
    )


@contextlib.contextmanager
def _kopf_log_in_our_words() -> Iterator[None]:
    """Pass on what kopf warns of, each kind once in a row and without its tracebacks."""
    logger = logging.getLogger("kopf")
    before = logger.level, logger.propagate
    handler = _KopfHandler()
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        level, logger.propagate = before
        logger.setLevel(level)


class _KopfHandler(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self._last = ""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "OS signals are ignored" in message:
            return
        kind = re.sub(r"\d+", "", message)
        log.log(logging.DEBUG if kind == self._last else logging.WARNING, "kopf: %s", message)
        self._last = kind


def _brief(error: BaseException) -> str:
    text = str(error.args[0]) if error.args else ""
    return text.strip() or type(error).__name__
