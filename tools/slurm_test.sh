#!/usr/bin/env bash
# Tests as a Slurm job: one task for each GPU.
set -euo pipefail

if (($# < 4)); then
  cat >&2 <<'TEXT'
Usage: bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [ARGUMENT OF tools/test.py...]
Environment: GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS, PYTHON (python)
TEXT
  exit 2
fi
# shellcheck source=tools/setup/slurm.sh
source "$(dirname "$0")/setup/slurm.sh"
submit test.py "$1" "$2" "$3" "$4" "${@:5}"
