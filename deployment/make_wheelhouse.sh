#!/usr/bin/env bash
# Gather anomalib-cxr and all that it depends on in a folder, for a machine without internet.
# Usage, in a checkout, on a machine with internet, the same operating system and the same Python:
#   bash deployment/make_wheelhouse.sh WHEELHOUSE
# TORCH_INDEX_URL: index of CPU wheels of torch; without it, torch brings CUDA, several gigabytes.
set -euo pipefail

wheelhouse="${1:?usage: make_wheelhouse.sh WHEELHOUSE}"
repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${PYTHON:-python3}"

mkdir -p "$wheelhouse"
"$python" -m pip wheel --no-deps --wheel-dir "$wheelhouse" "$repository"
if [[ -n "${TORCH_INDEX_URL:-}" ]]; then
  "$python" -m pip download --only-binary :all: --dest "$wheelhouse" --index-url "$TORCH_INDEX_URL" \
    "torch>=2.10" "torchvision>=0.25"
fi
wheel="$(echo "$wheelhouse"/anomalib_cxr-*.whl)"
# Some libraries are published as sources alone: their wheels are built here.
"$python" -m pip wheel --wheel-dir "$wheelhouse" --find-links "$wheelhouse" "${wheel}[serve,dicom]"
"$python" --version > "$wheelhouse/PYTHON"
cp "${BASH_SOURCE[0]%/*}/install_from_wheelhouse.sh" "$wheelhouse/"
(cd "$wheelhouse" && sha256sum -- *.whl PYTHON install_from_wheelhouse.sh > SHA256SUMS)
echo "Carry $wheelhouse to the machine, and run there: bash install_from_wheelhouse.sh /opt/anomalib-cxr MODEL"
