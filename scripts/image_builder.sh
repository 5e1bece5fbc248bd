# shellcheck shell=bash
# Finding the program that builds and pushes images; sourced, never run.

# find_builder: sets DOCKER to a program that can be started, and BUILDER to what it is: docker, podman or buildah.
find_builder() {
  local name
  if [[ -z ${DOCKER:-} ]]; then
    for name in docker podman buildah; do
      command -v "$name" >/dev/null || continue
      DOCKER=$name
      break
    done
    [[ -n ${DOCKER:-} ]] || die "there is no docker, podman or buildah here: install one, or name it with DOCKER=PATH"
  fi
  BUILDER=${DOCKER##*/}
  case $BUILDER in
    docker | podman | buildah) ;;
    *) die "DOCKER=$DOCKER is none of docker, podman, buildah" ;;
  esac
  command -v "$DOCKER" >/dev/null || die "DOCKER=$DOCKER is not installed: install it, or set DOCKER to another builder"
  if [[ $BUILDER == docker ]] && ! "$DOCKER" info >/dev/null 2>&1; then
    die "docker's daemon does not answer: start it, be allowed to use it, or set DOCKER=podman or DOCKER=buildah"
  fi
}

# wanted_images: sets IMAGES to what IMAGE asks for, both images where it is empty.
# shellcheck disable=SC2034 # IMAGES is for the script that sources this
wanted_images() {
  case ${IMAGE:-} in
    "") IMAGES=(train eval) ;;
    train | eval) IMAGES=("$IMAGE") ;;
    *) die "IMAGE=$IMAGE: train, eval, or nothing for both" ;;
  esac
}

# name_images: sets TAG where it is not set, and names, those of IMAGES.
# shellcheck disable=SC2034 # names is for the script that sources this
name_images() {
  local image name
  TAG=${TAG:-$(default_tag)}
  names=()
  for image in "${IMAGES[@]}"; do
    name=$(image_name "$image")
    names+=("$name")
  done
}
