"""Studies: how well proxies rank the networks of a benchmark."""
