"""Puts the parts together: the only place that names concrete adapters.

A module for each role, and for what commands need beside them. What callers use is here; nothing in this package is
imported by what is below it. Each name is loaded when it is first used: no command waits for what another one needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workerjobs.lazy import loader

if TYPE_CHECKING:
    from workerjobs.app.chains import open_chain_store, rewind_chain
    from workerjobs.app.databases import (
        adopt,
        check_against_workers,
        database,
        gather_facts,
        install_quickdapp,
        listener,
        name_of,
        open_store,
        throwaway_database,
        wait_for_store,
        wait_to_migrate,
    )
    from workerjobs.app.manifests import Applied, apply_locally
    from workerjobs.app.operators import run_operator
    from workerjobs.app.places import cluster_place, database_place, server_place
    from workerjobs.app.pools import change_pool, list_pools, read_pool
    from workerjobs.app.servers import make_ticket, open_token_store, run_server
    from workerjobs.app.workers import STORAGE_FOR_JOBS, run_worker

__all__ = [
    "STORAGE_FOR_JOBS",
    "Applied",
    "adopt",
    "apply_locally",
    "change_pool",
    "check_against_workers",
    "cluster_place",
    "database",
    "database_place",
    "gather_facts",
    "install_quickdapp",
    "list_pools",
    "listener",
    "make_ticket",
    "name_of",
    "open_chain_store",
    "open_store",
    "open_token_store",
    "read_pool",
    "rewind_chain",
    "run_operator",
    "run_server",
    "run_worker",
    "server_place",
    "throwaway_database",
    "wait_for_store",
    "wait_to_migrate",
]

_HOME_OF = {
    "Applied": "workerjobs.app.manifests",
    "STORAGE_FOR_JOBS": "workerjobs.app.workers",
    "adopt": "workerjobs.app.databases",
    "apply_locally": "workerjobs.app.manifests",
    "change_pool": "workerjobs.app.pools",
    "check_against_workers": "workerjobs.app.databases",
    "cluster_place": "workerjobs.app.places",
    "database": "workerjobs.app.databases",
    "database_place": "workerjobs.app.places",
    "gather_facts": "workerjobs.app.databases",
    "install_quickdapp": "workerjobs.app.databases",
    "list_pools": "workerjobs.app.pools",
    "listener": "workerjobs.app.databases",
    "make_ticket": "workerjobs.app.servers",
    "name_of": "workerjobs.app.databases",
    "open_chain_store": "workerjobs.app.chains",
    "open_store": "workerjobs.app.databases",
    "open_token_store": "workerjobs.app.servers",
    "read_pool": "workerjobs.app.pools",
    "rewind_chain": "workerjobs.app.chains",
    "run_operator": "workerjobs.app.operators",
    "run_server": "workerjobs.app.servers",
    "run_worker": "workerjobs.app.workers",
    "server_place": "workerjobs.app.places",
    "throwaway_database": "workerjobs.app.databases",
    "wait_for_store": "workerjobs.app.databases",
    "wait_to_migrate": "workerjobs.app.databases",
}

__getattr__ = loader(__name__, _HOME_OF)
