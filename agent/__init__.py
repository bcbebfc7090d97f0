"""The Kubernetes agent that drives either data plane."""
