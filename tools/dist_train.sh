#!/usr/bin/env bash
# Trains on several processes of this machine, or of NNODES machines (one call on each).
# Without GPUs the processes run on the CPU.
set -euo pipefail

if (($# < 2)) || ! [[ $2 =~ ^[1-9][0-9]*$ ]]; then
  cat >&2 <<'TEXT'
Usage: bash tools/dist_train.sh CONFIG GPUS [ARGUMENT OF tools/train.py...]
Environment: NNODES (1), NODE_RANK (0), MASTER_ADDR (127.0.0.1), PORT (29500), PYTHON (python)
TEXT
  exit 2
fi
config=$1 gpus=$2
shift 2
[ -f "$config" ] || { echo "config $config not found" >&2; exit 2; }

tools=$(cd "$(dirname "$0")" && pwd)
PYTHONPATH="$(dirname "$tools")${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONPATH
# torchrun would say at length that it does this.
((gpus == 1)) || export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "${PYTHON:-python}" "$tools/setup/torchrun.py" \
  --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" --nproc-per-node="$gpus" \
  --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}" \
  "$tools/train.py" "$config" --launcher pytorch "$@"
