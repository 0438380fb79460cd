#!/usr/bin/env bash
# Losses side by side at one short budget on CIFAR-100: ResNet-8 under the ResNet-32 of karanchahal/distiller, three seeds.
#     scripts/reproduce_cifar100_losses.sh cifar100.npz resnet32_cifar100.pt [folder] [images]
# About four hours of one CPU core with the 2,500 images of docs/results/distillation.md, longer in proportion with more; run again, it goes on.
set -euo pipefail
data=$(realpath "$1") weights=$(realpath "$2") folder=${3:-runs/cifar100_losses} images=${4:-2500}
losses="none; kd; dkd(beta=2); dist; crd; mlkd; wttm; reviewkd(weight=.6)"
losses="$losses; diswot(semantic_weight=100,relation_weight=4096); diswot(scale=unit); diswot(scale=unit,semantic_weight=10,relation_weight=10)"
export PYTHONPATH=$(dirname "$0") OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive  # one thread a process: more of them wait for each other
if [ -f "$folder/config.yaml" ]; then exec diswot compare --resume "$folder"; fi
exec diswot compare resnet8 --losses "$losses" --seeds 3 --workers "$(nproc)" --data "$data" --limit "$images" --epochs 30 \
    --val-interval 30 --teacher own_resnet32:ResNet32 --teacher-weights "$weights" --teacher-norm .507,.487,.441/.267,.256,.276 \
    --runs "$(dirname "$folder")" --name "$(basename "$folder")"
