#!/usr/bin/env bash
# Make or complete .venv from requirements.lock. PYTHON names the interpreter; without it, that of .venv, else python3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stamp=.venv/.setup-done
wanted=$(cksum requirements.lock setup.py tools/setup_env.sh)

fail() {
    echo "make setup: $*" >&2
    exit 1
}

# The interpreter that a virtual environment was made with is what its bin/python links to.
base_of() { "$1" -c 'import os, sys; print(os.path.realpath(sys.executable))' 2>/dev/null; }

given=${PYTHON:-}
if [ -L .venv/bin/python ]; then
    base=$(base_of .venv/bin/python) || fail "the interpreter of .venv is gone; run 'make clean', then 'make setup'"
    if [ -n "$given" ]; then
        asked=$(base_of "$given") || fail "'$given' is not a Python interpreter"
        [ "$asked" = "$base" ] || fail ".venv was made with $base, not with $asked; run 'make clean' to change that"
    fi
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then exit 0; fi
else
    base=$(base_of "${given:-python3}") || fail "'${given:-python3}' is not a Python interpreter"
fi
version=$("$base" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case $version in
3.10 | 3.11 | 3.12 | 3.13) ;;
*) fail "Python 3.10 to 3.13 is needed, $base is $version; name another: make setup PYTHON=python3.11" ;;
esac

echo "make setup: Python $version; installing requirements.lock into .venv (minutes; 6 GB with the CUDA build of torch)"
rm -f "$stamp"
# pip writes INSTALLER after a package's files. Where it is missing, an interrupted run left half a package, which pip
# would take for a whole one.
for info in .venv/lib/python*/site-packages/*.dist-info; do
    if [ -d "$info" ] && [ ! -e "$info/INSTALLER" ]; then rm -rf "$info"; fi
done
"$base" -m venv .venv
pip() { .venv/bin/python -m pip --quiet --quiet --disable-pip-version-check --no-input "$@"; }

# setuptools first and no build isolation: three packages come as sources, and would fetch the newest setuptools.
pip install "$(grep '^setuptools==' requirements.lock)"
pip install --use-pep517 --no-build-isolation -r <(grep -v '^sal-detectron2' requirements.lock)

# The wheel is tagged for CPython 3.10 because of its compiled _C, which RetinaNet does not use; the rest is Python.
# pip takes hashes for all lines of a run or for none, hence a run of its own.
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
pip install --no-deps --require-hashes --only-binary=:all: --python-version 3.10 --target "$site" --upgrade \
    -r <(grep '^sal-detectron2' requirements.lock)
pip install --no-deps --no-build-isolation --editable .

.venv/bin/python -W ignore - <<'PY'
import detectron2.modeling
import torch
import torchvision.ops

versions = [f"{module.__name__} {module.__version__}" for module in (torch, torchvision, detectron2)]
print("make setup:", ", ".join(versions))
PY
echo "$wanted" >"$stamp"
