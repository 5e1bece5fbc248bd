#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2154,SC2209 # $ is for others; every test is a subshell; output, status and stderr are set by bats
load test_helper
load builder

setup() {
  own_environment
  checkout
}

@test "both images: names on stdout, labels of the commit, the Dockerfile of each" {
  builder docker
  run --separate-stderr scripts/build_images.sh
  [ "$status" -eq 0 ]
  [ "$output" = $'localhost/ur10e-act-train:v1\nlocalhost/ur10e-act-eval:v1' ]
  revision=$(git rev-parse HEAD)
  for image in train eval; do
    grep -qxF "build [--file] [$ROOT/docker/Dockerfile.$image] [--tag] [localhost/ur10e-act-$image:v1] [--build-arg] \
[VERSION=v1] [--build-arg] [REVISION=$revision] [--build-arg] [SOURCE=] [$ROOT]" "$CALLS" || fail "$(<"$CALLS")"
  done
}

@test "IMAGE, REGISTRY, TAG and every build argument reach the builder; eval has no backbone" {
  builder buildah
  export REGISTRY=reg.example.org:5000/robots TAG=x.1 DOCKER=buildah BASE_IMAGE=base:1 AZCOPY_URL=http://m/a.tgz
  export AZCOPY_SHA256=ab EXTRA_PACKAGES="wandb tqdm" RUN_AS=0:0 BACKBONE_WEIGHTS=1 BACKBONE_URL=http://m/r.pth
  export BACKBONE_SHA256=cd BUILD_ARGS="--network host"
  git remote add origin https://user:token@git.example.org/a/b.git
  IMAGE=train run --separate-stderr scripts/build_images.sh
  [ "$status" -eq 0 ]
  [ "$output" = reg.example.org:5000/robots/ur10e-act-train:x.1 ]
  for argument in --layers BASE_IMAGE=base:1 AZCOPY_URL=http://m/a.tgz AZCOPY_SHA256=ab "EXTRA_PACKAGES=wandb tqdm" \
    RUN_AS=0:0 BACKBONE_WEIGHTS=1 BACKBONE_URL=http://m/r.pth BACKBONE_SHA256=cd VERSION=x.1 \
    SOURCE=https://git.example.org/a/b.git --network host; do
    grep -qF "[$argument]" "$CALLS" || fail "no $argument in: $(<"$CALLS")"
  done
  run ! grep -q token "$CALLS"
  IMAGE=eval run scripts/build_images.sh
  [ "$status" -eq 0 ]
  run ! grep -q 'eval:.*BACKBONE' "$CALLS"
}

@test "a tree with changes, or with files that are in no commit, says so in the tag and in words" {
  builder docker
  echo "# changed" >>python/train.py
  run --separate-stderr scripts/build_images.sh
  [[ $output == *train:v1-dirty* && $stderr == *"in no commit"* ]]
  [ "$(grep -c "in no commit" <<<"$stderr")" -eq 1 ]
  git checkout -q python/train.py
  touch python/new.py
  run --separate-stderr scripts/build_images.sh
  [[ $output == *train:v1-dirty* && $stderr == *"in no commit"* ]]
  git add . && commit second
  run --separate-stderr scripts/build_images.sh
  [[ $output == *train:v1-1-g* && $stderr != *"in no commit"* ]]
}

@test "a git tag that is not an image tag becomes one; without git, TAG is asked for" {
  builder docker
  git tag release/1+2
  git tag -d v1
  run --separate-stderr scripts/build_images.sh
  [[ $output == *train:release-1-2* ]]
  rm -rf .git
  GIT_CEILING_DIRECTORIES=$BATS_TEST_TMPDIR run --separate-stderr scripts/build_images.sh
  assert_refused "TAG is not set"
}

@test "no builder, an unknown one, and one that does not answer" {
  mkdir -p "$BATS_TEST_TMPDIR/bare"
  for tool in bash dirname env git mktemp rm cat sed; do
    ln -s "$(command -v "$tool")" "$BATS_TEST_TMPDIR/bare/$tool"
  done
  PATH=$BATS_TEST_TMPDIR/bare run --separate-stderr scripts/build_images.sh
  assert_refused "no docker, podman or buildah"
  DOCKER=podman PATH=$BATS_TEST_TMPDIR/bare run --separate-stderr scripts/build_images.sh
  assert_refused "DOCKER=podman is not installed"
  DOCKER=kaniko run --separate-stderr scripts/build_images.sh
  assert_refused "none of docker, podman, buildah"
  builder docker
  BUILDER_DOWN=1 run --separate-stderr scripts/build_images.sh
  assert_refused "daemon does not answer"
}

@test "without docker, podman is taken, and a path may name a builder" {
  builder podman
  for tool in bash dirname git sed grep cut sha256sum; do
    ln -sf "$(command -v "$tool")" "$BATS_TEST_TMPDIR/bin/$tool"
  done
  PATH=$BATS_TEST_TMPDIR/bin run scripts/build_images.sh
  [ "$status" -eq 0 ]
  DOCKER=$BATS_TEST_TMPDIR/bin/podman run scripts/build_images.sh
  [ "$status" -eq 0 ]
}

@test "what cannot be right is refused before anything is built" {
  builder docker
  IMAGE=both run --separate-stderr scripts/build_images.sh
  assert_refused "IMAGE=both"
  REGISTRY=https://reg.example.org run --separate-stderr scripts/build_images.sh
  assert_refused "leave out https://"
  TAG="a b" run --separate-stderr scripts/build_images.sh
  assert_refused "is not an image tag"
  AZCOPY_URL=http://m/a.tgz run --separate-stderr scripts/build_images.sh
  assert_refused "go together"
  AZCOPY_URL="https://m/a.tgz?sig=s3cret" AZCOPY_SHA256=ab run --separate-stderr scripts/build_images.sh
  assert_refused "no user and no query"
  [[ $stderr != *s3cret* ]]
  BACKBONE_URL=https://me:s3cret@m/r.pth run --separate-stderr scripts/build_images.sh
  assert_refused "no user and no query"
  [[ $stderr != *s3cret* ]]
  BACKBONE_WEIGHTS=yes run --separate-stderr scripts/build_images.sh
  assert_refused "BACKBONE_WEIGHTS=yes"
  RUN_AS=act run --separate-stderr scripts/build_images.sh
  assert_refused "is not a UID"
  run ! grep -q '^build' "$CALLS"
}

@test "a build that fails ends build_images.sh" {
  builder docker
  BUILD_ARGS=--nonsense run --separate-stderr scripts/build_images.sh
  [ "$status" -eq 2 ]
  [[ -z $output && $stderr == *"train:v1 could not be built"* ]]
}

@test "both Dockerfiles are the same down to ENV PATH, so that the images share these layers" {
  shared() {
    sed -n '/^FROM \${BASE_IMAGE}/,/^ENV PATH/p' "$REPO/docker/Dockerfile.$1"
    grep '^ARG BASE_IMAGE' "$REPO/docker/Dockerfile.$1"
  }
  [ "$(shared train)" = "$(shared eval)" ]
  [ "$(shared eval | grep -c '^RUN')" -eq 2 ]
}
