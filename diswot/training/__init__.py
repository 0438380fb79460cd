"""The one training loop and its parts: what trains whom (`loop`), on which batches (`feed`, `augment`), by which recipe (`recipe`)."""
