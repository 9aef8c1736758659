"""Puts the parts together: the only place that names concrete adapters.

A module for each role, and for what commands need beside them. What callers use is here; nothing in this package is
imported by what is below it.
"""

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
    "database",
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
    "throwaway_database",
    "wait_for_store",
    "wait_to_migrate",
]
