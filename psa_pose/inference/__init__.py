"""Pictures and videos in, drawn people and COCO files out."""
