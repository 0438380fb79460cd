"""Scoring: the context, the engine, and the recipe of `diswot score`."""
