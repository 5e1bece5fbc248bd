# shellcheck shell=bash
# What the images are called; sourced, never run.

# default_tag: the git description. What is in no commit (untracked files that would be copied in, too) makes it "-dirty".
default_tag() {
  local tag
  tag=$(git -C "$ROOT" describe --always --tags --dirty 2>/dev/null) ||
    die "TAG is not set, and $ROOT is not a git checkout that could give one: set TAG"
  if [[ $tag != *-dirty && -n $(git -C "$ROOT" ls-files --others --exclude-standard -- docker python scripts) ]]; then
    tag+=-dirty
  fi
  if [[ $tag == *-dirty ]]; then
    say "the tree has changes that are in no commit: the tag is $tag"
  fi
  # A git tag may hold what an image tag must not.
  printf '%s\n' "${tag//[^A-Za-z0-9_.-]/-}"
}

# image_name train|eval: REGISTRY/ur10e-act-train:TAG. It runs in $(...): a script that has no TAG calls default_tag
# once itself, so that a dirty tree is said once and both images get one tag.
image_name() {
  local registry=${REGISTRY:-} tag host path
  [[ $1 == train || $1 == eval ]] || die "there is no image called '$1': train or eval"
  [[ -n $registry ]] || die "REGISTRY is not set: name where the images are kept, like REGISTRY=registry.example.com/robots"
  host='([a-z0-9]+([.-][a-z0-9]+)*(:[0-9]+)?)'
  path='(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)*'
  [[ $registry =~ ^$host$path$ ]] ||
    die "REGISTRY='$registry' is not HOST[:PORT][/PATH] in small letters: leave out https:// and a / at the end"
  tag=${TAG:-$(default_tag)} || exit
  [[ $tag =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]] ||
    die "TAG='$tag' is not an image tag: letters, digits, _ . - and at most 128 of them"
  printf '%s/ur10e-act-%s:%s\n' "$registry" "$1" "$tag"
}
