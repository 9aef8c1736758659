"""Running jobs: a supervisor that claims and settles, and child processes that run one job each at a time.

The supervisor (asyncio) never imports a user's code. The nursery is a small process with one thread that forks the
children, so that a child is there within milliseconds, shares its memory, and never outlives the supervisor.
"""
