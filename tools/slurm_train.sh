#!/usr/bin/env bash
# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
# Train under Slurm, one task per GPU. In the environment: GPUS (8),
# GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS, MASTER_PORT (drawn), PYTHON (python).
set -euo pipefail

if [[ $# -lt 3 ]]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG [WORK_DIR] [OPTIONS OF train.py]" >&2
    exit 2
fi
partition=$1 job_name=$2 config=$3
shift 3
if [[ $# -gt 0 && $1 != -* ]]; then
    set -- --work-dir "$@"
fi
exec bash "$(dirname "${BASH_SOURCE[0]}")/_srun.sh" train.py "$partition" "$job_name" \
    "$config" "$@"
