#!/usr/bin/env bash
# Sets up what the tests need and runs them: ruff, then pytest.
set -uo pipefail

usage() {
  cat <<'TEXT'
Usage: bash tools/run_tests.sh [--venv DIR] [PYTEST_ARGUMENT...]
  --venv DIR          the virtual environment (default: .venv at the repository root; made where absent)
  PYTEST_ARGUMENT...  passed on, for example: bash tools/run_tests.sh -k matcher
The first run on a machine builds mmcv's compiled ops and keeps them for later runs (docs/installation.md).
TEXT
}

here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=tools/setup/common.sh
source "$here/setup/common.sh"
# shellcheck source=tools/setup/environment.sh
source "$here/setup/environment.sh"
# shellcheck source=tools/setup/mmcv.sh
source "$here/setup/mmcv.sh"

case ${1:-} in
  --venv) use_venv "${2:?--venv needs a folder}"; shift 2 ;;
  -h | --help) usage; exit 0 ;;
esac

check_style() {
  "$PY" -m ruff check "$REPO" && "$PY" -m ruff format --check "$REPO"
}

run_pytest() {
  local color=auto
  if [ -t 1 ]; then color=yes; fi
  # Two processes at most: a test may take gigabytes.
  (cd "$REPO" && "$PY" -m pytest --color="$color" --durations=15 --durations-min=1 \
    -n "$(($(nproc) > 1 ? 2 : 1))" --dist loadfile "$@")
}

check_machine
start_log "$REPO/work_dirs/run_tests.log"
describe_machine
problem=$(compiler_problem)
if [ -n "$problem" ]; then
  warn "$problem: csrc/ is not compiled, and mmcv can only come from an earlier build or" \
    "a published wheel. To change that, $COMPILER_REMEDY"
fi

STEPS=$((ENVIRONMENT_STEPS + MMCV_STEPS + 3))
environment_steps
run_step 'What the tests need (requirements/tests.txt)' "$NETWORK_REMEDY" \
  requirements_step tests "$REPO/requirements/tests.txt"
mmcv_steps
unlock_environment
run_step 'Style (ruff check, ruff format --check)' \
  "run: $VENV/bin/ruff check --fix . && $VENV/bin/ruff format ." check_style
run_step_live 'Tests (pytest)' \
  'read the failures above; one alone: bash tools/run_tests.sh -k NAME' run_pytest "$@"

echo "run_tests.sh: PASSED in $(duration "$SECONDS") (log: $LOG)"
