//go:build tools

// Package tools pins the programs of the test cluster as Go modules: go.mod and go.sum name every version and checksum.
// tests/support/cluster/binaries.py builds the API server, the controller manager and etcd from them; the scheduler,
// kubelet and kube-proxy are pinned here for a cluster that runs pods.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kube-proxy"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
