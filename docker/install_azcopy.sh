#!/usr/bin/env bash
# Summary: put azcopy into an image while it is built
# Usage: install_azcopy.sh [URL SHA256]
#   URL     a .tar.gz or .tgz with azcopy in it, or azcopy itself; default: by the processor
#   SHA256  of what is at URL
set -euo pipefail

url=${1:-}
sha256=${2:-}
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)

if [[ -z $url$sha256 ]]; then
  case $(uname -m) in
    x86_64)
      # Microsoft's npm package: the very file that the tests run (tests/package-lock.json has its sha512).
      url=https://registry.npmjs.org/@azure-tools/azcopy-linux/-/azcopy-linux-10.32.2.tgz
      sha256=6a06ca202bc42caa32f732b7f37e419c8de897411119ee673f68ccc097dd7997
      ;;
    aarch64)
      # npm has none for it.
      url=https://github.com/Azure/azure-storage-azcopy/releases/download/v10.32.8/azcopy_linux_arm64_10.32.8.tar.gz
      sha256=50e6e58a109f2afd64376b5b003973ff213fbfdec795fe81a95b208982061d9b
      ;;
    *)
      echo "install_azcopy.sh: no azcopy is known for $(uname -m): set AZCOPY_URL and AZCOPY_SHA256" >&2
      exit 2
      ;;
  esac
elif [[ -z $url || -z $sha256 ]]; then
  echo "install_azcopy.sh: AZCOPY_URL and AZCOPY_SHA256 go together: set both or none" >&2
  exit 2
fi

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
python3 "$here/download.py" "$url" "$sha256" "$work/download"
case $url in
  *.tar.gz | *.tgz)
    mkdir "$work/tree"
    tar -xzf "$work/download" -C "$work/tree"
    binary=$(find "$work/tree" -type f \( -name azcopy -o -name 'azcopy_linux_*' \) | head -n 1)
    [[ -n $binary ]] || {
      echo "install_azcopy.sh: there is no azcopy in $url" >&2
      exit 2
    }
    ;;
  *) binary=$work/download ;;
esac
install -m 755 "$binary" /usr/local/bin/azcopy

# azcopy is linked against libsecret, though it needs it for nothing here; not every base has it.
if ! azcopy --version >/dev/null 2>&1; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libsecret-1-0 >/dev/null
  apt-get clean
  rm -rf /var/lib/apt/lists/*
fi
azcopy --version
