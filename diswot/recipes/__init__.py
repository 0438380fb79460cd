"""The recipes, each readable top to bottom: `search`, `scoring`, `distill` (with `training`, its loop) and `describe`."""
