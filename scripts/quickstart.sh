#!/usr/bin/env bash
# From a fresh clone to an AP table: installs, draws synthetic people, trains a small network with PSA, tests it.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

python=.venv/bin/python
config=configs/synthetic/quickstart.yaml
out=output/quickstart

$python tools/synthetic.py --root data/synthetic
if [ -e "$out/best.pt" ] && [ "$(cat "$out/.finished" 2>/dev/null)" = "$(cksum <$config)" ]; then
  echo "$out is trained already; remove the folder to train it again"
else
  $python tools/train.py --cfg $config --overwrite
  cksum <$config >"$out/.finished"
fi
$python tools/test.py --cfg $config --checkpoint $out/best.pt
echo
echo "checkpoint: $out/best.pt"
echo "pictures:   $out/pictures/train_crops.png, $out/test/predictions_val2017_ground_truth.png"
echo "log:        $out/log.txt (curves: .venv/bin/tensorboard --logdir $out/tensorboard)"
