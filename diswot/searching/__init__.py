"""The search recipe: what to try next, within which budget, and what was found."""
