"""COCO-format annotations, detections and images, as batches of crops."""
