#!/usr/bin/env bash
# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
# Starts a tool under Slurm: _srun.sh TOOL.py PARTITION JOB_NAME ARGUMENTS...
# For slurm_train.sh and slurm_test.sh, which say what may be set in the environment.
set -euo pipefail

tool=$1 partition=$2 job_name=$3
shift 3
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
for name in gpus per_node; do
    if ! [[ ${!name} =~ ^[1-9][0-9]*$ ]]; then
        [[ $name == gpus ]] && variable=GPUS || variable=GPUS_PER_NODE
        echo "error: $variable must be a number of GPUs, got '${!name}'" >&2
        exit 2
    fi
done
if ! command -v srun >/dev/null; then
    echo "error: there is no srun here; without Slurm use tools/dist_train.sh or" \
        "tools/dist_test.sh" >&2
    exit 2
fi
((per_node <= gpus)) || per_node=$gpus
# jobs that share a machine need ports of their own
export MASTER_PORT=${MASTER_PORT:-$((20000 + RANDOM % 20000))}
# SRUN_ARGS holds several words
# shellcheck disable=SC2086
exec srun --partition "$partition" --job-name "$job_name" --ntasks "$gpus" \
    --ntasks-per-node "$per_node" --gres "gpu:$per_node" \
    --cpus-per-task "${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$(dirname "${BASH_SOURCE[0]}")/$tool" "$@" --launcher slurm
