"""One agent among thousands of nodes: what it costs, and how that grows."""
