"""Label maps in, numbers out: IoU, accuracies, Cityscapes' scores, boundary IoU, intervals."""
