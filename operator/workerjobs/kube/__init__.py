"""The operator: mirrors WorkerJob resources into the table and rows back into their status, and scales the workers.

`workerjob` and `reconcile` and the decision in `autoscaler` are pure; `handlers` is the only home of kopf, `client` the
only one of the kubernetes package.
"""
