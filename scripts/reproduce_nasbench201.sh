#!/usr/bin/env bash
# The figures of docs/studies.md, from the table of NAS-Bench-201: about three hours on two cores. Broken off, it goes on where it was.
#
#     scripts/reproduce_nasbench201.sh nasbench201.csv.gz [folder for the runs]
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
table=$(realpath "${1:?the table: nasbench201.csv.gz}")
runs=${2:-runs}

study() {  # name, table, options...: begins the study, or goes on with it
    local name=$1 source=$2
    shift 2
    if [ -e "$runs/$name/config.yaml" ]; then
        diswot study --resume "$runs/$name"
    else
        diswot study "$source" --name "$name" --runs "$runs" "$@"
    fi
}

study parts "$table" --config "$here/configs/study/parts.yaml"
python "$here/scripts/choose_diswot_plus.py" "$runs/parts" --table "$table"
for rows in even odd unseen distinct; do
    study "plus_$rows" "$table" --config "$here/configs/study/plus.yaml" --scores-of "$runs/parts" "rows=$rows"
done
study plus "$table" --config "$here/configs/study/plus.yaml" --scores-of "$runs/parts" searches=20
study rivals "$table" --config "$here/configs/study/rivals.yaml" searches=20
study vkdnw "$table" --config "$here/configs/study/vkdnw.yaml"
study metrics "$table" --config "$here/configs/study/metrics.yaml"
for teacher in resnet20 resnet56 resnet110 wrn-40-2; do
    study "teacher_$teacher" "$table" --config "$here/configs/study/teacher.yaml" "teacher=$teacher"
done
for init in kaiming gaussian orthogonal torch; do
    study "init_$init" "$table" --config "$here/configs/study/initialisation.yaml" "init=$init"
done
python "$here/scripts/compare_published.py" --write "$runs/published.csv"
study literature "$runs/published.csv" --config "$here/configs/study/literature.yaml"
python "$here/scripts/compare_published.py" "$runs/literature"
python "$here/scripts/benchmark_proxies.py"
python "$here/scripts/benchmark_proxies.py" --memory
