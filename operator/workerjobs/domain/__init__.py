"""The rules of jobs, schedules and their lifecycle: pure functions and values.

Nothing here reads a clock, logs or does I/O: functions receive ``now``. What talks to Postgres, processes or Kubernetes
lives above, in `storage`, `worker` and `kube`.
"""
