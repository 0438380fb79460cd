"""Latency where a network will run: measuring it, and tables that tell it of any network of a space without running it."""
