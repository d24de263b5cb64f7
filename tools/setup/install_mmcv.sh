#!/usr/bin/env bash
# Installs mmcv with compiled ops, and mmdet, for the configs and tests that need them.
# The environment is made first where there is none.
set -uo pipefail

usage() {
  cat <<'TEXT'
Usage: bash tools/setup/install_mmcv.sh [--venv DIR]
  --venv DIR   the virtual environment (default: .venv at the repository root)
TEXT
}

here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=tools/setup/common.sh
source "$here/common.sh"
# shellcheck source=tools/setup/environment.sh
source "$here/environment.sh"
# shellcheck source=tools/setup/mmcv.sh
source "$here/mmcv.sh"

while (($#)); do
  case $1 in
    --venv) use_venv "${2:?--venv needs a folder}"; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; fail "unknown argument '$1'" 'see the usage above' ;;
  esac
done

check_machine
start_log "$REPO/work_dirs/setup.log"
describe_machine
STEPS=$((ENVIRONMENT_STEPS + MMCV_STEPS))
environment_steps
mmcv_steps
unlock_environment
echo "mmcv and mmdet are installed in $VENV."
