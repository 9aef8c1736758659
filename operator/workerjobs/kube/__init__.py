"""The operator: mirrors WorkerJobs into the table and rows back into their status, and runs the workers of WorkerPools.

`workerjob`, `reconcile`, `workerpool`, `poolplan`, `poolspec` and `merge` are pure; `handlers` is the only home of
kopf, `client` the only one of the kubernetes package.
"""
