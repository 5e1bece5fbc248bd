#!/usr/bin/env bash
# Summary: push the images that build_images.sh has built to a registry
# Usage: push_images.sh
#   REGISTRY   HOST[:PORT][/PATH] to push to (secrets.env); who may push is settled by DOCKER's own login
#   TAG        default: the git description
#   IMAGE      train or eval; default: both
#   DOCKER     docker, podman or buildah; default: the first of them that is installed
#   PUSH_ARGS  further arguments of its push, blank-separated, like --tls-verify=false
# Prints NAME@DIGEST of each on stdout, everything else on stderr.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/secrets_file.sh
source "$ROOT/scripts/secrets_file.sh"
# shellcheck source=scripts/image_names.sh
source "$ROOT/scripts/image_names.sh"
# shellcheck source=scripts/image_builder.sh
source "$ROOT/scripts/image_builder.sh"
help_wanted "$@"

wanted_images
# Nothing else of that file is the builder's business.
REGISTRY=${REGISTRY:-$(load_secrets && printf '%s' "${REGISTRY:-}")}
[[ -n $REGISTRY ]] || image_name train # says so
name_images
find_builder

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
read -r -a further <<<"${PUSH_ARGS:-}"

is_here() {
  "$DOCKER" inspect --type image "$1" >/dev/null 2>&1
}

# One line out of what the builder said.
why() {
  local said
  said=$(tr '\n' ' ' <"$work/output")
  case $said in
    *[Uu]nauthorized* | *"authentication required"* | *denied* | *"no basic auth"* | *403*)
      printf 'not logged in at %s, or not allowed to push there: %s login %s' "${REGISTRY%%/*}" "$DOCKER" "${REGISTRY%%/*}"
      ;;
    *"server gave HTTP response to HTTPS client"*)
      printf '%s has no TLS: PUSH_ARGS=--tls-verify=false, or insecure-registries for docker' "${REGISTRY%%/*}"
      ;;
    *"connection refused"* | *"no such host"* | *"i/o timeout"* | *"no route to host"* | *"network is unreachable"*)
      printf '%s cannot be reached: check REGISTRY and the network' "${REGISTRY%%/*}"
      ;;
    *) tail -n 1 "$work/output" | tr -d '\n' ;;
  esac
}

for index in "${!IMAGES[@]}"; do
  name=${names[index]}
  built=localhost/ur10e-act-${IMAGES[index]}:$TAG
  if ! is_here "$name"; then
    is_here "$built" || die "$built is not here: make build-images TAG=$TAG"
    "$DOCKER" tag "$built" "$name"
  fi
done
for name in "${names[@]}"; do
  say "pushing $name with $BUILDER ..."
  rm -f -- "$work/digest"
  arguments=(push)
  [[ $BUILDER == docker ]] || arguments+=(--digestfile "$work/digest")
  "$DOCKER" "${arguments[@]}" "${further[@]}" "$name" >"$work/output" 2>&1 || die "$name: $(why)"
  if [[ $BUILDER == docker ]]; then
    sed -n 's/^.* digest: \(sha256:[0-9a-f]*\) .*$/\1/p' "$work/output" >"$work/digest"
  fi
  digest=$(<"$work/digest")
  [[ $digest == sha256:* ]] || die "$name was pushed, but $BUILDER reported no digest"
  printf '%s@%s\n' "${name%:*}" "$digest"
done
