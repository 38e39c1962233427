"""Pictures of crops, heatmaps and predictions."""
