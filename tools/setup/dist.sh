# shellcheck shell=bash
# What dist_train.sh and dist_test.sh share.

# launch TOOL GPUS CONFIG [ARGUMENT OF THE TOOL...]: one process for each GPU.
launch() {
  local tool=$1 gpus=$2 config=$3 tools
  shift 3
  [ -f "$config" ] || { echo "config $config not found" >&2; exit 2; }
  tools=$(cd "$(dirname "$0")" && pwd)
  PYTHONPATH="$(dirname "$tools")${PYTHONPATH:+:$PYTHONPATH}"
  export PYTHONPATH
  # torchrun would say at length that it does this.
  ((gpus == 1)) || export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
  exec "${PYTHON:-python}" "$tools/setup/torchrun.py" \
    --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" --nproc-per-node="$gpus" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}" \
    "$tools/$tool" "$config" "$@"
}
