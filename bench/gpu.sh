#!/usr/bin/env bash
# Proves and times the CUDA kernels on this machine's GPU: builds them and their tests for it, runs the tests there, runs
# compute-sanitizer on a small case, then times. Writes one JSON and one Markdown file.
#
#   bench/gpu.sh [--out FOLDER] [--libtorch FOLDER] [--minutes M]
#
# Needs a C++ compiler, CMake, nvcc of LibTorch's CUDA version and a LibTorch: --libtorch, LIBTORCH, or that of python3's
# torch. No Node, no network. A LibTorch that the project is not tested with (2.11) is tried all the same.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out="$root/bench/results/gpu"
libtorch=${LIBTORCH:-}
minutes=9
while [ $# -gt 0 ]; do
  case $1 in
    --out | --libtorch | --minutes)
      [ $# -gt 1 ] || { echo "gpu.sh: $1 takes a value" >&2; exit 2; }
      case $1 in
        --out) out=$2 ;;
        --libtorch) libtorch=$2 ;;
        --minutes) minutes=$2 ;;
      esac
      shift 2
      ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "gpu.sh: there is no option $1" >&2; exit 2 ;;
  esac
done

start=$SECONDS
# Seconds that are left, one at least: `timeout 0` would wait for ever.
left() { local seconds=$((minutes * 60 - (SECONDS - start))); echo $((seconds > 1 ? seconds : 1)); }
say() { echo "gpu.sh [$((SECONDS - start)) s]: $*" >&2; }
die() { say "$*"; exit 1; }

# ---- what is here ---------------------------------------------------------------------------------------------------
command -v cmake >/dev/null || die "cmake is missing"
command -v nvidia-smi >/dev/null && nvidia-smi -L >&2 || die "there is no NVIDIA GPU here: nvidia-smi says nothing"
if [ -z "$libtorch" ]; then
  # Located without importing it.
  libtorch=$(python3 -c 'import importlib.util, os; s = importlib.util.find_spec("torch"); print(os.path.dirname(s.origin) if s else "")' 2>/dev/null)
fi
[ -n "$libtorch" ] || die "no LibTorch: install PyTorch for CUDA, or give --libtorch FOLDER"
[ -f "$libtorch/lib/libtorch_cuda.so" ] || { [ -f "$libtorch/torch/lib/libtorch_cuda.so" ] && libtorch=$libtorch/torch; }
[ -f "$libtorch/lib/libtorch_cuda.so" ] || die "$libtorch is no CUDA build of LibTorch (lib/libtorch_cuda.so is missing)"
nvcc=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
[ -x "$nvcc" ] || die "nvcc is missing: neither CUDACXX nor the PATH nor /usr/local/cuda/bin has it"
sanitizer=$(command -v compute-sanitizer || echo "$(dirname "$(readlink -f "$nvcc")")/compute-sanitizer")
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d '. ')
say "LibTorch in $libtorch, $("$nvcc" --version | grep -o 'release [0-9.]*'), architecture $capability"

# ---- build ----------------------------------------------------------------------------------------------------------
build="$root/build/gpu"
mkdir -p "$out" "$build"
generator=()
command -v ninja >/dev/null && generator=(-G Ninja)
cmake -S "$root" -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DLTRP_BUILD_ADDON=OFF -DLTRP_CUDA=ON \
  -DLTRP_ANY_LIBTORCH=ON -DLTRP_WERROR=OFF -DLTRP_LIBTORCH="$libtorch" -DCMAKE_CUDA_COMPILER="$nvcc" \
  -DLTRP_CUDA_ARCHITECTURES="${capability:-90}" >"$out/configure.log" 2>&1 ||
  { tail -n 20 "$out/configure.log" >&2; die "configuring failed; the whole log is $out/configure.log"; }
: >"$out/build.log"
# Each target by itself: one that does not build on this LibTorch must not keep the others from being run.
build_target() {
  say "building $1"
  timeout "$(left)" cmake --build "$build" --target "$1" --parallel "$(nproc)" >>"$out/build.log" 2>&1
}
tests="$out/tests.txt"
: >"$tests"
outcome() { say "$1: $2"; echo "$1: $2" >>"$tests"; }

build_target ltrp_gpu_bench || { tail -n 20 "$out/build.log" >&2; die "the benchmark does not build; the whole log is $out/build.log"; }

# ---- prove ----------------------------------------------------------------------------------------------------------
# run_tests TARGET LOG WHAT
run_tests() {
  if ! build_target "$1"; then
    outcome "$3" "not built, see build.log"
  elif timeout "$(left)" "$build/$1" >"$out/$2" 2>&1; then
    outcome "$3" "$(grep -o 'test cases:.*' "$out/$2" | tail -n 1 | tr '|' ',')"
  else
    outcome "$3" "FAILED, see $2"
  fi
}
run_tests ltrp_gpu_tests gpu-tests.log "engine, operators and kernels on the GPU"
run_tests ltrp_gpu_managed_tests gpu-managed-tests.log "kernels on the GPU, in managed memory"
if [ -x "$sanitizer" ]; then
  for tool in memcheck racecheck; do
    log="$out/$tool.log"
    if timeout 60 "$sanitizer" --tool "$tool" --error-exitcode 9 "$build/ltrp_gpu_bench" --small >"$log" 2>&1; then
      outcome "compute-sanitizer $tool" "$(grep -oE 'ERROR SUMMARY.*|RACECHECK SUMMARY.*' "$log" | tail -n 1)"
    else
      outcome "compute-sanitizer $tool" "FAILED (status $?), see $tool.log"
    fi
  done
else
  outcome "compute-sanitizer" "not here"
fi

# ---- time: before the core's own tests, which take the processor and may be left out ---------------------------------
say "timing"
rm -f "$out/gpu.json" "$out/gpu.md"
timeout "$(left)" "$build/ltrp_gpu_bench" --seconds 0.5 --tests "$tests" --json "$out/gpu.json" --markdown "$out/gpu.md" ||
  outcome "timing" "FAILED in part, see the tables"
[ -f "$out/gpu.md" ] || die "nothing was timed"
say "written: $out/gpu.json and $out/gpu.md"

# ---- the core's tests, with what time is left ------------------------------------------------------------------------
if [ "$(left)" -gt 90 ] && build_target ltrp_tests && [ "$(left)" -gt 20 ]; then
  if timeout "$(left)" "$build/ltrp_tests" >"$out/core-tests.log" 2>&1; then
    outcome "the core's tests" "$(grep -o 'test cases:.*' "$out/core-tests.log" | tail -n 1 | tr '|' ',')"
  else
    outcome "the core's tests" "FAILED or out of time, see core-tests.log"
  fi
else
  outcome "the core's tests" "left out: no time, or not built (build.log)"
fi
# The report again, with all outcomes; what was timed stays.
"$build/ltrp_gpu_bench" --render "$out/gpu.json" --tests "$tests" --json "$out/gpu.json" --markdown "$out/gpu.md"
say "done"
! grep -qE 'FAILED|not built, see' "$tests"
