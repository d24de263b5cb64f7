#!/usr/bin/env bash
# Tests on several processes of this machine, or of NNODES machines (one call on each).
# Without GPUs the processes run on the CPU.
set -euo pipefail

if (($# < 3)) || ! [[ $3 =~ ^[1-9][0-9]*$ ]]; then
  cat >&2 <<'TEXT'
Usage: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [ARGUMENT OF tools/test.py...]
Environment: NNODES (1), NODE_RANK (0), MASTER_ADDR (127.0.0.1), PORT (29500), PYTHON (python)
TEXT
  exit 2
fi
# shellcheck source=tools/setup/dist.sh
source "$(dirname "$0")/setup/dist.sh"
launch test.py "$3" "$1" "$2" --launcher pytorch "${@:4}"
