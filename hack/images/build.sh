#!/usr/bin/env bash
# Builds an image of Foresail with buildah and writes it as an OCI archive. Needs root, buildah, debootstrap and uv.
#   build.sh operator|sidecar NAME:TAG ARCHIVE.tar
# The packages are those of uv.lock for that part's extra; the base is Debian's minimal system with its Python, made once
# (FORESAIL_BASE names another base image that has Python 3.11 at /usr/bin/python3).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
part=${1:?operator or sidecar} image=${2:?NAME:TAG} archive=$(realpath -m "${3:?ARCHIVE.tar}")
base=${FORESAIL_BASE:-localhost/foresail-base:bookworm} python=3.11
uv=$(command -v uv || echo "$root/.cache/bootstrap/bin/uv")
buildah() { command buildah --storage-driver vfs "$@"; }

make_base() {
  local container folder
  folder=$(mktemp -d)
  debootstrap --variant=minbase --include=python3,ca-certificates bookworm "$folder" >"$folder.log" 2>&1 \
    || { tail -n 20 "$folder.log" >&2; exit 1; }
  rm -rf "$folder"/var/cache/apt/* "$folder"/var/lib/apt/lists/* "$folder"/usr/share/{doc,man,locale}/*
  container=$(buildah from scratch)
  buildah copy --quiet "$container" "$folder" / >/dev/null
  buildah commit --quiet --rm "$container" "$1" >/dev/null
  rm -rf "$folder" "$folder.log"
}

[ "$base" != localhost/foresail-base:bookworm ] || buildah inspect --type image "$base" >/dev/null 2>&1 || make_base "$base"

# Routers that name their sentence encoder instead of carrying it find it in the sidecar's image.
groups=()
[ "$part" != sidecar ] || groups=(--group weights)

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cd "$root"
"$uv" export --quiet --frozen --no-dev --no-emit-project --extra "$part" "${groups[@]}" --format requirements-txt >"$context/requirements.txt"
"$uv" build --quiet --wheel --out-dir "$context/wheel"
"$uv" pip install --quiet --no-deps --target "$context/site" --python-version $python --python-platform linux --only-binary :all: \
  --require-hashes --requirements "$context/requirements.txt"
"$uv" pip install --quiet --no-deps --target "$context/site" --python-version $python --python-platform linux "$context"/wheel/*.whl
rm -rf "$context/site/bin" "$context/wheel"
cp hack/images/Containerfile hack/images/foresail "$context/"
buildah bud --isolation chroot --quiet --build-arg "BASE=$base" --file "$context/Containerfile" --tag "$image" "$context" >/dev/null
rm -f "$archive"
buildah push --quiet "$image" "oci-archive:$archive:$image" >/dev/null
