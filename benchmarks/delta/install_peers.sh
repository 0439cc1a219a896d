#!/usr/bin/env bash
# Installs the tools that `make bench-delta ARGS=--peers` measures against, into build/peers:
# the wheels and sdists of PyPI in an environment of their own, two Debian tools unpacked
# beside it. Nothing is installed into the system, and nothing of ours into that environment.
set -eu

root="$(cd "$(dirname "$0")/../.." && pwd)"
folder="${1:-$root/build/peers}"

"$folder/bin/python" -c "" >/dev/null 2>&1 || {
    rm -rf "$folder"
    "$("$root/.ci/find-python" 3.11)" -m venv "$folder"
}
pip() { "$folder/bin/python" -m pip -q --disable-pip-version-check install "$@"; }
pip numpy zstandard==0.25.0 hdiffpatch==2.6.0 pcodec==1.1.0
missing=()
# These need a C compiler. ZipNN asks for torch, which the form used here does not touch.
pip detools==0.53.0 || missing+=(detools)
pip z4ai==0.2.0 || missing+=(z4ai)
pip --no-deps zipnn==0.5.4 || missing+=(zipnn)

for name in bsdiff xdelta3; do
    if command -v "$name" >/dev/null || [ -x "$folder/debian/usr/bin/$name" ]; then
        continue
    fi
    packages="$(mktemp -d)"
    if (cd "$packages" && apt-get -q download "$name" >/dev/null 2>&1); then
        dpkg -x "$packages"/*.deb "$folder/debian"
        dpkg-deb -f "$packages"/*.deb Version >"$folder/debian/$name.version"
    else
        missing+=("$name")
    fi
    rm -rf "$packages"
done
command -v zstd >/dev/null || missing+=(zstd)

if [ "${#missing[@]}" -gt 0 ]; then
    echo "missing: ${missing[*]}" >&2
    echo "the Debian tools: apt-get install bsdiff xdelta3 zstd; a compiler: gcc" >&2
    exit 1
fi
echo "peers are in $folder"
