#!/usr/bin/env bash
# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
# Test under Slurm, one task per GPU. In the environment: GPUS (8),
# GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS, MASTER_PORT (drawn), PYTHON (python).
set -euo pipefail

if [[ $# -lt 4 ]]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG CHECKPOINT [OPTIONS OF test.py]" >&2
    exit 2
fi
exec bash "$(dirname "${BASH_SOURCE[0]}")/_srun.sh" test.py "$@"
