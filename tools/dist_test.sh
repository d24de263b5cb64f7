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
config=$1 checkpoint=$2 gpus=$3
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
  "$tools/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
