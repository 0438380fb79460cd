#!/usr/bin/env bash
# Every figure of docs/studies.md, from the table of NAS-Bench-201 (about four hours on two cores; each study resumes with --resume).
#
#     scripts/reproduce_nasbench201.sh nasbench201.csv.gz [folder for the runs]
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
table=$(realpath "${1:?the table: nasbench201.csv.gz}")
runs=${2:-runs}

study() {  # name, options...: begins the study, or goes on with it
    local name=$1
    shift
    if [ -e "$runs/$name/config.yaml" ]; then
        diswot study --resume "$runs/$name"
    else
        diswot study "$table" --name "$name" --runs "$runs" "$@"
    fi
}

study parts --config "$here/configs/study/parts.yaml"
python "$here/scripts/choose_diswot_plus.py" "$runs/parts" --table "$table"
for rows in even odd unseen; do
    study "plus_$rows" --config "$here/configs/study/plus.yaml" "rows=$rows"
done
study plus --config "$here/configs/study/plus.yaml" searches=20
study rivals --config "$here/configs/study/rivals.yaml" searches=20
for ablation in metrics teacher initialisation; do
    study "$ablation" --config "$here/configs/study/$ablation.yaml"
done
python "$here/scripts/compare_published.py" --write "$runs/published.csv"
[ -e "$runs/literature/config.yaml" ] && diswot study --resume "$runs/literature" ||
    diswot study "$runs/published.csv" --config "$here/configs/study/literature.yaml" --name literature --runs "$runs"
python "$here/scripts/compare_published.py" "$runs/literature"
python "$here/scripts/benchmark_proxies.py"
python "$here/scripts/benchmark_proxies.py" --memory
