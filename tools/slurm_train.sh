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
partition=$1 job_name=$2 config=$3 work_dir=$4
shift 4
[ -f "$config" ] || { echo "config $config not found" >&2; exit 2; }

gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
# shellcheck disable=SC2086  # SRUN_ARGS are words
exec srun --partition="$partition" --job-name="$job_name" --ntasks="$gpus" \
  --ntasks-per-node="$gpus_per_node" --gres=gpu:"$gpus_per_node" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
  "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$config" --work-dir "$work_dir" --launcher slurm "$@"
