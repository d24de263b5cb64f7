#!/usr/bin/env bash
# Trains as a Slurm job: one task for each GPU.
set -euo pipefail

if (($# < 4)); then
  cat >&2 <<'TEXT'
Usage: bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [ARGUMENT OF tools/train.py...]
Environment: GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS, PYTHON (python)
TEXT
  exit 2
fi
# shellcheck source=tools/setup/slurm.sh
source "$(dirname "$0")/setup/slurm.sh"
submit train.py "$1" "$2" "$3" --work-dir "$4" "${@:5}"
