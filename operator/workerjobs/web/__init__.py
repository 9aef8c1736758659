"""What is served over HTTP. So far: probes and metrics, which every role has, on a port of their own."""
