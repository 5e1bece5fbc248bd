# A base image to build on where NVIDIA's cannot be downloaded, made once: Debian 13 with its own Python, torch and torchvision.
# Like NGC's torch, this one is a build that is in no registry of Python packages, so that a replacement shows.
# shellcheck shell=bash

# need_builder [TOOL ...]: buildah and the tools; says why and returns 1 where they cannot be downloaded.
need_builder() {
  local missing=() tool
  [[ $(uname -s) == Linux ]] || {
    echo "images are built here on Linux only"
    return 1
  }
  for tool in buildah "$@"; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  if [[ $(id -u) != 0 ]]; then
    echo "only root can build images without a daemon"
    return 1
  fi
  if ((${#missing[@]} > 0)); then
    { command -v apt-get && apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
      </dev/null >/dev/null 2>&1 || {
      echo "${missing[*]} cannot be installed"
      return 1
    }
  fi
}

# use_storage DIR: buildah's images lie in DIR from now on, by the driver that needs the least room.
use_storage() {
  local driver container
  mkdir -p "$1"
  export CONTAINERS_STORAGE_CONF=$1/storage.conf
  for driver in overlay vfs; do
    printf '[storage]\ndriver = "%s"\ngraphroot = "%s/graph"\nrunroot = "%s/run"\n' "$driver" "$1" "$1" \
      >"$CONTAINERS_STORAGE_CONF"
    if buildah info >/dev/null 2>&1 && container=$(buildah from scratch 2>/dev/null); then
      if buildah mount "$container" >/dev/null 2>&1; then
        buildah rm "$container" >/dev/null
        return
      fi
      buildah rm "$container" >/dev/null
    fi
  done
  return 1
}

# make_standin: sets STANDIN to the base's name, and makes it unless it is there. About a minute and 1.3 GB.
make_standin() {
  local container root
  STANDIN=localhost/standin:$(cksum <"${BASH_SOURCE[0]}" | cut -d ' ' -f 1)
  ! buildah inspect --type image "$STANDIN" >/dev/null 2>&1 || return 0
  # Those of an older recipe.
  buildah rmi --all --force >/dev/null 2>&1 || true
  container=$(buildah from scratch) && root=$(buildah mount "$container") || return
  mmdebstrap --quiet --variant=minbase --format=directory --skip=output/dev --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/lib/libtorch-test/*' \
    --include=python3,python3-pip,python3-venv,ca-certificates,python3-torch,python3-torchvision \
    trixie "$root" http://deb.debian.org/debian || {
    buildah rm "$container" >/dev/null
    return 1
  }
  # Debian builds torch without libuv, yet torchrun asks for it.
  sed -i 's/multi_tenant=True,/multi_tenant=True, use_libuv=False,/' \
    "$root"/usr/lib/python3/dist-packages/torch/distributed/elastic/rendezvous/*.py
  sed -i 's/is_master=False,/is_master=False, use_libuv=False,/' \
    "$root"/usr/lib/python3/dist-packages/torch/distributed/rendezvous.py
  # What NGC's images do to those who build on them: an entrypoint with a banner, and pinned packages.
  mkdir -p "$root/opt/nvidia" "$root/etc/pip"
  printf '#!/bin/sh\necho BANNER\nexec "$@"\n' >"$root/opt/nvidia/nvidia_entrypoint.sh"
  chmod 755 "$root/opt/nvidia/nvidia_entrypoint.sh"
  printf 'packaging==25.0\npsutil==7.0.0\n' >"$root/etc/pip/constraint.txt"
  buildah config --env USE_LIBUV=0 --env PIP_CONSTRAINT=/etc/pip/constraint.txt \
    --entrypoint '["/opt/nvidia/nvidia_entrypoint.sh"]' "$container"
  buildah commit --quiet --rm "$container" "$STANDIN" >/dev/null
}
