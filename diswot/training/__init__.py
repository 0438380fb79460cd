"""The one training loop and its parts: batches, augmentation, students, the frozen teacher, checkpoints, several processes."""
