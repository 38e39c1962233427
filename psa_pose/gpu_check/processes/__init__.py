"""Several processes: the figures of one, and runs that survive what happens to them.

With several GPUs each process has one and they talk over nccl; else two processes share the CPU and talk over gloo.
"""
