#!/usr/bin/env bash
# Trains on one or several nodes of a Slurm cluster: one torchrun per node, one process per GPU.
#
#   sbatch --nodes=2 --gpus-per-node=8 --time=24:00:00 scripts/train_slurm.sh --cfg configs/coco/hrnet/hrnet_w32_256x192.yaml
#
# A process that dies is started again with all others, and goes on from the last checkpoint (AUTO_RESUME). Two minutes
# before the time is up Slurm sends SIGTERM: the run writes a checkpoint, and the job is put back into the queue. OUTPUT_DIR
# must be on a disk that all nodes see. GPUS: GPUs of each node, if Slurm does not say. MAX_RESTARTS: 10 by default.
#SBATCH --job-name=psa_pose
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=64
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

[ -n "${SLURM_JOB_ID:-}" ] || {
  echo "error: this is a Slurm job script; submit it: sbatch --nodes=2 --gpus-per-node=8 scripts/train_slurm.sh --cfg ..." >&2
  exit 2
}
cd "${SLURM_SUBMIT_DIR:?}"
python=.venv/bin/python
[ -x $python ] || {
  echo "error: $PWD has no .venv; run bash scripts/test.sh or scripts/quickstart.sh there once" >&2
  exit 2
}
gpus=${GPUS:-${SLURM_GPUS_ON_NODE:-1}}
# Not head: it ends before the list does, and a broken pipe would end this script.
host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
# Jobs that share a node must not meet at one port.
port=$((20000 + SLURM_JOB_ID % 20000))

srun --kill-on-bad-exit=1 $python -m torch.distributed.run \
  --nnodes="$SLURM_NNODES" --nproc_per_node="$gpus" --max-restarts="${MAX_RESTARTS:-10}" \
  --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$host:$port" \
  tools/train.py "$@" AUTO_RESUME true &
step=$!

requeue() {
  echo "the time is nearly up: writing a checkpoint, then back into the queue"
  trap '' USR1
  scancel --signal=TERM "$SLURM_JOB_ID"
  wait "$step" || true
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
}
trap requeue USR1
wait "$step"
