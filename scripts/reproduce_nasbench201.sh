#!/usr/bin/env bash
# The figures of docs/results/studies.md, from the table of NAS-Bench-201: about four hours on two cores. Broken off, it goes on where it was.
#
#     scripts/reproduce_nasbench201.sh nasbench201.csv.gz [folder for the runs [CIFAR-10 images (.npz) [teacher's weights]]]
#
# The images serve the comparison with NASLib's scores alone, the weights (resnet56-4bfd9763.th, trained on CIFAR-10) the comparison of
# teachers: without them these two studies are left out.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
table=$(realpath "${1:?the table: nasbench201.csv.gz}")
runs=${2:-runs} images=${3:-} weights=${4:-}

source "$here/scripts/study_function.sh"

study parts "$table" parts
python "$here/scripts/choose_diswot_nb201.py" "$runs/parts" --table "$table"
for rows in even odd unseen distinct; do
    study "plus_$rows" "$table" plus --scores-of "$runs/parts" "rows=$rows"
done
study plus "$table" plus --scores-of "$runs/parts" simulated_searches=20
study rivals "$table" rivals simulated_searches=20
study rivals_noise "$table" rivals --scores-of "$runs/rivals" rows=even sample_rows=300
study rivals_drawn "$table" rivals data=synthetic num_classes=100 batch_size=8 seeds=3 rows=even sample_rows=300
study rivals_distinct "$table" rivals --scores-of "$runs/rivals" rows=distinct
study metrics "$table" metrics
for teacher in resnet20 resnet56 resnet110 wrn-40-2; do
    study "teacher_$teacher" "$table" teacher "teacher=$teacher"
done
if [ -n "$weights" ]; then
    study teacher_trained "$table" teacher teacher=resnet56_pad "teacher_weights=$(realpath "$weights")" teacher_norm=imagenet num_classes=10
fi
for init in kaiming gaussian orthogonal torch; do
    study "init_$init" "$table" initialisation "init=$init"
done
python "$here/scripts/compare_published.py" --write "$runs/published.csv" --table "$table"
study plus_published "$runs/published.csv" plus --scores-of "$runs/parts"
study rivals_published "$runs/published.csv" rivals --scores-of "$runs/rivals"
study literature "$runs/published.csv" literature
study slow "$runs/published.csv" slow
python "$here/scripts/compare_published.py" "$runs/literature" --table "$table"
python "$here/scripts/compare_published.py" "$runs/slow" --table "$table"
if [ -n "$images" ]; then
    study naslib "$runs/published.csv" naslib "data=$(realpath "$images")"
    python "$here/scripts/compare_published.py" "$runs/naslib" --table "$table"
fi
python "$here/scripts/summarise_studies.py" "$runs" --table "$table"
python "$here/scripts/benchmark_proxies.py"
python "$here/scripts/benchmark_proxies.py" --memory
