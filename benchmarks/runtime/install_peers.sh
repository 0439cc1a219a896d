#!/usr/bin/env bash
# Installs what `make bench-runtime` measures beside us, into build/peers-runtime: Triton out of
# the PyTriton wheel with an environment for its Python models, and, with --once, MLServer and
# LitServe in environments of their own. Nothing is installed into the system, nothing of ours
# into those environments. What is there already stays.
set -eu

root="$(cd "$(dirname "$0")/../.." && pwd)"
once=no
if [ "${1:-}" = --once ]; then
    once=yes
    shift
fi
folder="${1:-$root/build/peers-runtime}"
python="$("$root/.ci/find-python" 3.11)"
pytriton=0.7.0
mkdir -p "$folder"

make_venv() {  # NAME PACKAGES...
    local venv="$folder/$1" wanted="${*:2}"
    [ "$(cat "$venv/.installed" 2>/dev/null)" = "$wanted" ] && return
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip -q --disable-pip-version-check install "${@:2}"
    echo "$wanted" >"$venv/.installed"
}

# With NumPy 2 in the stub's environment every answer of this Triton is empty, without an error.
make_venv stub 'numpy<2' onnxruntime==1.31.1

if [ ! -x "$folder/triton/pytriton/tritonserver/bin/tritonserver" ]; then
    wheels="$(mktemp -d)"
    "$python" -m pip -q --disable-pip-version-check download --no-deps -d "$wheels" \
        "nvidia-pytriton==$pytriton"
    rm -rf "$folder/triton.part"
    "$python" -m zipfile -e "$wheels"/*.whl "$folder/triton.part"
    rm -rf "$wheels"
    chmod +x "$folder/triton.part/pytriton/tritonserver/bin/tritonserver" \
        "$folder"/triton.part/pytriton/tritonserver/python_backend_stubs/*/*
    mv "$folder/triton.part" "$folder/triton"
fi

if [ "$once" = yes ]; then
    make_venv mlserver mlserver==1.7.1 onnxruntime==1.31.1
    make_venv litserve litserve==0.2.19 onnxruntime==1.31.1
fi
echo "peers are in $folder"
