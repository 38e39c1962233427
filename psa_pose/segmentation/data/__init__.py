"""Pictures with label maps: the readers of each layout, joint augmentation, batches."""
