#!/usr/bin/env bash
# Do the weights of a loss follow the length of the training? ResNet-8 at 6 and at 30 epochs, by dist and rkd in three strengths each, on two data sets.
#     scripts/reproduce_weights_and_length.sh cifar100.npz resnet32_cifar100.pt cifar10.npz resnet56-4bfd9763.th [folder]
# 2,500 images train and 5,000 others, of the training split too, measure. About 75 minutes of one CPU core.
set -euo pipefail
folder=${5:-runs/weights_and_length}
mkdir -p "$folder"
export PYTHONPATH=$(dirname "$0") OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
losses="none; kd; dist(weight=.2); dist(weight=.6); dist"
losses="$losses; rkd(distance_weight=2.5,angle_weight=5); rkd(distance_weight=7.5,angle_weight=15); rkd"
for part in "$1" "$3"; do
    python - "$part" "$folder/part-$(basename "$part")" <<'PYTHON'
import sys
import numpy as np
whole = np.load(sys.argv[1])
order = np.random.default_rng(7).permutation(len(whole["y_train"]))
kept = {f"{name}_{split}": whole[f"{name}_train"][places]
        for split, places in (("train", order[:2500]), ("test", order[2500:7500])) for name in "xy"}
np.savez(sys.argv[2], **kept)
PYTHON
done
for epochs in 6 30; do
    diswot distill resnet8 --loss "$losses" --data "$folder/part-$(basename "$1")" --epochs $epochs --val-interval $epochs \
        --teacher own_resnet32:ResNet32 --teacher-weights "$2" --teacher-norm .507,.487,.441/.267,.256,.276 --runs "$folder" --name "cifar100-$epochs"
    diswot distill resnet8 --loss "$losses" --data "$folder/part-$(basename "$3")" --epochs $epochs --val-interval $epochs \
        --teacher resnet56_pad --teacher-weights "$4" --teacher-norm imagenet --runs "$folder" --name "cifar10-$epochs"
done
