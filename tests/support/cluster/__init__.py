"""A real Kubernetes API for tests: etcd, kube-apiserver and kube-controller-manager on this machine, without nodes.

Here the API's own rules hold (schemas, RBAC, garbage collection, owner references, ServiceAccounts, ReplicaSets), after
a few seconds and in half a gigabyte of memory. Pods stay pending: there is no scheduler and no kubelet.

- ``binaries``: where the programs come from, and their cache. ``modules`` names them with the Go modules that pin them,
  ``downloads`` and ``gobuild`` get them.
- ``controlplane``: starting and stopping them, and sharing one cluster between processes.
- ``fixtures``: the pytest fixtures ``cluster`` and ``namespace``.
- ``python -m tests.support.cluster``: the same for a person.
"""
