"""`wgpy-agent demo`: a whole cluster on one machine, shown at work."""
