#!/usr/bin/env bash
# Losses at one short budget on a quarter of CIFAR-10, under the real ResNet-56 of akamaster/pytorch_resnet_cifar10: three seeds of each.
#     scripts/reproduce_cifar10_short.sh cifar10.npz resnet56-4bfd9763.th [folder]
# About an hour on two CPU cores; runs that are there are resumed. At the end the table of docs/results/distillation.md.
set -euo pipefail
data=$1 weights=$2 folder=${3:-runs/cifar10_short}
losses=(none kd "dkd(beta=8)" dist rkd diswot "diswot(semantic_weight=100,relation_weight=4096)")
names=(none kd dkd dist rkd diswot diswot_weighted)
for seed in 0 1 2; do
    for i in "${!losses[@]}"; do
        run=$folder/${names[$i]}-$seed
        if [ -d "$run/student" ]; then continue; fi
        if [ -f "$run/config.yaml" ]; then diswot distill --resume "$run" --quiet > /dev/null; continue; fi
        diswot distill resnet20 --loss "${losses[$i]}" --teacher resnet56_pad --teacher-weights "$weights" --teacher-norm imagenet \
            --data "$data" --limit 12500 --epochs 8 --sched cosine --augment flip --val-interval 8 --seed "$seed" \
            --runs "$folder" --name "${names[$i]}-$seed" --quiet > /dev/null
    done
done
python "$(dirname "$0")/summarise_distill.py" "$folder"
