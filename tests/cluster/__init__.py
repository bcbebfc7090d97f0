"""A cluster on one machine: a real API server, nodes and pods as namespaces, real CNI plugins."""
