# shellcheck shell=bash
# What slurm_train.sh and slurm_test.sh share.

# submit TOOL PARTITION JOB_NAME CONFIG [ARGUMENT OF THE TOOL...]: one task for each GPU.
submit() {
  local tool=$1 partition=$2 job_name=$3 config=$4
  shift 4
  [ -f "$config" ] || { echo "config $config not found" >&2; exit 2; }
  local gpus=${GPUS:-8}
  local gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
  PYTHONPATH="$(cd "$(dirname "$0")/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}"
  export PYTHONPATH
  # shellcheck disable=SC2086  # SRUN_ARGS are words
  exec srun --partition="$partition" --job-name="$job_name" --ntasks="$gpus" \
    --ntasks-per-node="$gpus_per_node" --gres=gpu:"$gpus_per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$(dirname "$0")/$tool" "$config" --launcher slurm "$@"
}
