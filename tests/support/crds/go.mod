// Whose definitions of custom resources the tests of autoscaling and monitoring apply.
module workerjobs.test/crds

go 1.26.0

require (
	github.com/kedacore/keda/v2 v2.21.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
	sigs.k8s.io/karpenter v1.14.1
)
