"""DeepLabV3+, HRNetV2, HRNet-OCR and HMSA: images in, logits out; built from the config."""
