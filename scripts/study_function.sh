# For scripts that make many studies; needs $runs and $here, the folder of the runs and of the project.

study() {  # name, table, configuration, options...: begins the study, or goes on with it
    local name=$1 source=$2 config=$3
    shift 3
    if [ -e "$runs/$name/config.yaml" ]; then
        diswot study --resume "$runs/$name"
    else
        diswot study "$source" --name "$name" --runs "$runs" --config "$here/configs/study/$config.yaml" "$@"
    fi
}
