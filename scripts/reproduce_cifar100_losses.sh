#!/usr/bin/env bash
# Losses side by side at one short budget on CIFAR-100: ResNet-8 under the ResNet-32 of karanchahal/distiller, three seeds.
#     scripts/reproduce_cifar100_losses.sh cifar100.npz resnet32_cifar100.pt [folder] [images]
# About five hours of one CPU core with 5,000 images; run again, it goes on where it was. It makes the table of docs/guide/distillation.md.
set -euo pipefail
data=$1 weights=$2 folder=${3:-runs/cifar100_losses} images=${4:-5000}
cd "$(dirname "$0")"
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive  # one thread for each of the three processes: more of them wait for each other
losses="none; kd; dkd(beta=2); dist; crd; mlkd; wttm; kd+100*diswot(kd_weight=0,relation_weight=0)"
