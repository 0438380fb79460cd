"""What a finished run looks like to a reader. Nothing here computes; it lays out what the recipes return."""
