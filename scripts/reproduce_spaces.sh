#!/usr/bin/env bash
# docs/results/every_space.md: the rankings in every space whose networks have known accuracies. Broken off, it goes on where it was.
#
#     scripts/reproduce_spaces.sh FOLDER [folder for the runs [options of `diswot study`...]] > every_space.md
#
# FOLDER holds the tables nasbench201/nasbench201.csv.gz, nasbench101/nasbench101_500.csv.gz, nasbench_macro/nasbench_macro.csv.gz and
# channel_bench/channel_bench_resnet.csv.gz; the tables of distilled students lie in the project.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
tables=$(realpath "${1:?the folder of tables}")
runs=${2:-runs}
options=("${@:3}")

source "$here/scripts/study_function.sh"

compare() {  # name, table, options...
    study "$1" "$2" rankings "${@:3}" "${options[@]}" >&2
}

sample() {  # rows, number of even rows, number of odd ones
    if [ "$1" = even ]; then echo "sample_rows=$2"; else echo "sample_rows=$3"; fi
}

for rows in odd even; do
    # searches say nothing on the rows that a ranking was chosen on
    if [ "$rows" = even ]; then options+=(simulated_searches=0); fi
    compare "s1_$rows" "$here/docs/results/students/s1/table.csv" space=s1 dataset=cifar10_kd "rows=$rows"
    compare "s0_$rows" "$here/docs/results/students/s0/table.csv" space=s0 dataset=cifar10_kd "rows=$rows"
    compare "nb101_$rows" "$tables/nasbench101/nasbench101_500.csv.gz" split=valid "rows=$rows" "$(sample $rows 100 70)"
    compare "channel_$rows" "$tables/channel_bench/channel_bench_resnet.csv.gz" "rows=$rows" "$(sample $rows 200 100)"
    compare "macro_$rows" "$tables/nasbench_macro/nasbench_macro.csv.gz" "rows=$rows" "$(sample $rows 300 150)"
    compare "nb201_$rows" "$tables/nasbench201/nasbench201.csv.gz" "rows=$rows" "$(sample $rows 300 300)"
done
for rows in even odd; do
    if [ "$rows" = even ]; then echo "## Even rows: parts and weights were chosen on them (NAS-Bench-201: CIFAR-100)"; else echo "## Odd rows"; fi
    echo
    python "$here/scripts/summarise_spaces.py" "NB201 C10=$runs/nb201_$rows:cifar10" "C100=$runs/nb201_$rows:cifar100" \
        "IN16=$runs/nb201_$rows:imagenet16_120" "NB101=$runs/nb101_$rows" "Macro=$runs/macro_$rows" "Channel=$runs/channel_$rows" \
        "S1=$runs/s1_$rows" "S0=$runs/s0_$rows" --rankings \
        "diswot+,diswot_nb201,diswot,az_nas,vkdnw_agg,zico,synflow,nwot,zen,swap,entropy_layers,flops,params"
done
