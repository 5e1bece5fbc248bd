#!/usr/bin/env bash
# Summary: build the images for training and for evaluation
# Usage: build_images.sh
#   IMAGE            train or eval; default: both
#   TAG              default: the git description
#   REGISTRY         HOST[:PORT][/PATH] to build for (localhost; make push-images gives them their name elsewhere)
#   DOCKER           docker, podman or buildah; default: the first of them that is installed
#   BUILD_ARGS       further arguments of the builder, blank-separated
# Build arguments, passed on where they are set:
#   BASE_IMAGE       an image with Python 3.10 to 3.13, torch and torchvision (NGC's, pinned in the Dockerfiles)
#   AZCOPY_URL       a mirror's azcopy, .tar.gz or the program itself; needs AZCOPY_SHA256
#   AZCOPY_SHA256    of what is at AZCOPY_URL
#   BACKBONE_WEIGHTS 0 = without the ResNet18 weights, which training then downloads once per machine (1)
#   BACKBONE_URL     a mirror's resnet18-f37072fd.pth, or other weights of torchvision with BACKBONE_SHA256
#   BACKBONE_SHA256  of what is at BACKBONE_URL
#   EXTRA_PACKAGES   blank-separated packages to install beside the lock, like wandb
#   RUN_AS           UID:GID that the images run as (1000:1000); 0:0 is root
# Prints the names of the images on stdout, everything else on stderr.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/image_names.sh
source "$ROOT/scripts/image_names.sh"
# shellcheck source=scripts/image_builder.sh
source "$ROOT/scripts/image_builder.sh"
help_wanted "$@"

REGISTRY=${REGISTRY:-localhost}
wanted_images
name_images

# Build arguments can be read in the image's history.
for name in AZCOPY_URL BACKBONE_URL; do
  if [[ ${!name:-} == *@* || ${!name:-} == *\?* ]]; then
    die "$name must hold no user and no query, which could be read in the image: name a URL that needs no login"
  fi
done
if [[ -n ${AZCOPY_URL:-} && -z ${AZCOPY_SHA256:-} || -z ${AZCOPY_URL:-} && -n ${AZCOPY_SHA256:-} ]]; then
  die "AZCOPY_URL and AZCOPY_SHA256 go together: set both or none"
fi
case ${BACKBONE_WEIGHTS:-} in
  "" | 0 | 1) ;;
  *) die "BACKBONE_WEIGHTS=$BACKBONE_WEIGHTS: 1 (baked in), 0 (not) or nothing" ;;
esac
if [[ -n ${RUN_AS:-} && ! ${RUN_AS:-} =~ ^[0-9]+(:[0-9]+)?$ ]]; then
  die "RUN_AS=$RUN_AS is not a UID or UID:GID"
fi
find_builder

revision=$(git -C "$ROOT" rev-parse HEAD 2>/dev/null) || revision=
source=$(git -C "$ROOT" remote get-url origin 2>/dev/null) || source=
case $source in
  # Without a user, since tokens are put there.
  http://* | https://*) source=$(sed -E 's#^(https?://)[^/@]*@#\1#' <<<"$source") ;;
  *) source= ;;
esac

export DOCKER_BUILDKIT=1
read -r -a further <<<"${BUILD_ARGS:-}"
for index in "${!IMAGES[@]}"; do
  image=${IMAGES[index]}
  arguments=(build --file "$ROOT/docker/Dockerfile.$image" --tag "${names[index]}")
  # docker keeps layers by itself, and has no such option.
  [[ $BUILDER == docker ]] || arguments+=(--layers)
  passed=(BASE_IMAGE AZCOPY_URL AZCOPY_SHA256 EXTRA_PACKAGES RUN_AS)
  [[ $image == eval ]] || passed+=(BACKBONE_WEIGHTS BACKBONE_URL BACKBONE_SHA256)
  for name in "${passed[@]}"; do
    [[ -z ${!name:-} ]] || arguments+=(--build-arg "$name=${!name}")
  done
  arguments+=(--build-arg "VERSION=$TAG" --build-arg "REVISION=$revision" --build-arg "SOURCE=$source")
  say "building ${names[index]} with $BUILDER ..."
  "$DOCKER" "${arguments[@]}" "${further[@]}" "$ROOT" >&2 ||
    die "${names[index]} could not be built: $BUILDER's last lines above say why"
done
printf '%s\n' "${names[@]}"
