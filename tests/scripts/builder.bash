# Programs that take the arguments of docker, podman and buildah, no others, and build nothing.
# shellcheck shell=bash

# builder NAME: a NAME, first on the PATH, that writes its calls to $CALLS, a line each, and refuses what the real one
# would. BUILDER_SAYS: what its push says before it fails; BUILDER_DOWN=1: docker without a daemon.
builder() {
  CALLS=$BATS_TEST_TMPDIR/calls
  export CALLS
  : >"$CALLS"
  mkdir -p "$BATS_TEST_TMPDIR/bin"
  cat >"$BATS_TEST_TMPDIR/bin/$1" <<'SCRIPT'
#!/usr/bin/env bash
name=${0##*/}
images=${CALLS%/*}/images
refuse() {
  echo "$name: $1" >&2
  exit 125
}
printf '%s' "$1" >>"$CALLS"
printf ' [%s]' "${@:2}" >>"$CALLS"
echo >>"$CALLS"
command=$1
shift
digestfile=
case $command in
  info)
    [[ $name == docker && -z $BUILDER_DOWN ]] || refuse "Cannot connect to the Docker daemon"
    ;;
  build)
    while (($#)); do
      case $1 in
        --file) [[ -f $2 ]] || refuse "no Dockerfile $2"; shift 2 ;;
        --tag) echo "$2" >>"$images"; shift 2 ;;
        --build-arg) [[ $2 =~ ^[A-Z0-9_]+= ]] || refuse "build-arg $2"; shift 2 ;;
        --layers) [[ $name != docker ]] || refuse "unknown flag: --layers"; shift ;;
        --network) shift 2 ;;
        -*) refuse "unknown flag: $1" ;;
        *) break ;;
      esac
    done
    [[ $# == 1 && -d $1 ]] || refuse "one context is needed: $*"
    ;;
  inspect)
    [[ $1 == --type && $2 == image && $# == 3 ]] || refuse "inspect $*"
    grep -qxF -- "$3" "$images" 2>/dev/null || refuse "no such image $3"
    ;;
  tag)
    [[ $# == 2 ]] || refuse "tag $*"
    grep -qxF -- "$1" "$images" || refuse "no such image $1"
    echo "$2" >>"$images"
    ;;
  push)
    while [[ $1 == -* ]]; do
      case $1 in
        --digestfile) [[ $name != docker ]] || refuse "unknown flag: --digestfile"; digestfile=$2; shift 2 ;;
        --tls-verify=false) [[ $name != docker ]] || refuse "unknown flag: $1"; shift ;;
        *) refuse "unknown flag: $1" ;;
      esac
    done
    [[ $# == 1 ]] || refuse "push $*"
    grep -qxF -- "$1" "$images" || refuse "no such image $1"
    [[ -z $BUILDER_SAYS ]] || { echo "$BUILDER_SAYS" >&2; exit 1; }
    digest=sha256:$(printf '%s' "$1" | sha256sum | cut -d ' ' -f 1)
    [[ -z $digestfile ]] || echo "$digest" >"$digestfile"
    echo "${1##*:}: digest: $digest size: 1234"
    ;;
  *) refuse "unknown command $command" ;;
esac
SCRIPT
  chmod +x "$BATS_TEST_TMPDIR/bin/$1"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH
}

# A checkout with scripts and Dockerfiles and a clean git tree, tagged v1.
checkout() {
  copy_root
  cp -R "$REPO/docker" "$REPO/secrets.example.env" "$ROOT"
  find . -name __pycache__ -prune -exec rm -rf {} +
  git init -q .
  git add .
  commit first
  git tag v1
}

commit() {
  git -c user.name=t -c user.email=t@example.org commit -qm "$1"
}
