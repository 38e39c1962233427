"""psa_pose: train and evaluate top-down human pose networks with Polarized Self-Attention."""

__version__ = "0.1.0"
