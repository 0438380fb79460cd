"""Rank statistics: correlations, regret and the intervals of both, on plain arrays."""
