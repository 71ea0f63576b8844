#!/usr/bin/env bash
# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
# Starts a tool in several processes: _torchrun.sh TOOL.py PROCESSES ARGUMENTS...
# For dist_train.sh and dist_test.sh, which say what may be set in the environment.
set -euo pipefail

tool=$1 processes=$2
shift 2
if ! [[ $processes =~ ^[1-9][0-9]*$ ]]; then
    echo "error: GPUS must be a number of processes per machine, got '$processes'" >&2
    exit 2
fi

if [[ ${NNODES:-1} == 1 && -z ${PORT:-} ]]; then
    where=(--standalone) # one machine: torchrun finds a free port
else
    where=(--nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}"
           --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}")
fi
# torchrun would say at every start that it sets this
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec "${PYTHON:-python}" -m torch.distributed.run "${where[@]}" \
    --nproc_per_node "$processes" "$(dirname "${BASH_SOURCE[0]}")/$tool" \
    "$@" --launcher pytorch
