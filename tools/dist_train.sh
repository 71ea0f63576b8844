#!/usr/bin/env bash
# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
# Train in GPUS processes, one per GPU, or on the CPU where there is none (gloo).
# In the environment: NNODES (1), NODE_RANK (0), MASTER_ADDR (127.0.0.1),
# PORT (a free one; 29500 with several machines), PYTHON (python).
set -euo pipefail

if [[ $# -lt 2 ]]; then
    echo "usage: $0 CONFIG GPUS [OPTIONS OF train.py]" >&2
    exit 2
fi
exec bash "$(dirname "${BASH_SOURCE[0]}")/_torchrun.sh" train.py "$2" "$1" "${@:3}"
