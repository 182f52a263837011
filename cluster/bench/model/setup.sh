#!/usr/bin/env bash
# Installs PyTorch and ONNX Runtime from PyPI into a folder of its own for `make bench-model`; some 6 GB, since the wheel
# for Linux brings libraries for graphics processors that are not used here.
# Exits 69 where they cannot be had.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
folder=$here/.build-python requirements=$here/requirements.txt

"$here/../../install-dependencies.sh" python3-venv
cmp -s "$requirements" "$folder/requirements.txt" && exit 0
printf 'bench-model: installing PyTorch and ONNX Runtime\n' >&2
rm -rf "$folder"
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check -r "$requirements" || exit 69
cp "$requirements" "$folder/requirements.txt"
