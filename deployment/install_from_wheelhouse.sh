#!/usr/bin/env bash
# Install anomalib-cxr from the wheelhouse that this file lies in, without internet, and test it with a calibrated model.
# Usage: bash install_from_wheelhouse.sh TARGET [MODEL]
set -euo pipefail

target="${1:?usage: install_from_wheelhouse.sh TARGET [MODEL]}"
model="${2:-}"
wheelhouse="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python="${PYTHON:-python3}"

(cd "$wheelhouse" && sha256sum --check --quiet --strict SHA256SUMS)
if [[ "$("$python" --version)" != "$(cat "$wheelhouse/PYTHON")" ]]; then
  echo "found: $("$python" --version)" >&2
  echo "  expected: $(cat "$wheelhouse/PYTHON"), which the wheels were gathered for" >&2
  echo "  next step: name it by PYTHON=..., or make a wheelhouse with this one" >&2
  exit 1
fi
"$python" -m venv "$target"
wheel="$(echo "$wheelhouse"/anomalib_cxr-*.whl)"
"$target/bin/python" -m pip install --no-index --find-links "$wheelhouse" "${wheel}[serve,dicom]"
"$target/bin/anomalib-cxr" --version
if [[ -n "$model" ]]; then
  "$target/bin/anomalib-cxr" selftest "$model"
fi
