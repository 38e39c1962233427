"""A trained network for other programs and for speed: folded norms, ONNX files, torch.export archives, 8 bits."""
