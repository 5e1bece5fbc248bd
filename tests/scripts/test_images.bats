#!/usr/bin/env bats
# Real builds of both Dockerfiles on a stand-in for NGC's base, and real runs of what comes out.
# bats file_tags=slow
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # $ is for the image; every test is a subshell; output, status and stderr are set by bats
load test_helper
load builder
load standin

MARKER=PLANTED-5ecret-e1b2

setup_file() {
  local reason
  reason=$(need_builder mmdebstrap) || skip "images were not built: $reason"
  # Kept, since the base takes a minute; everything else is removed at the end.
  use_storage "${XDG_CACHE_HOME:-$HOME/.cache}/ur10e-act-tests" ||
    skip "images were not built: buildah has no storage driver that works here"
  make_standin >"$BATS_FILE_TMPDIR/standin.log" 2>&1 ||
    skip "images were not built: the stand-in base could not be made: $(tail -n 1 "$BATS_FILE_TMPDIR/standin.log")"
  own_environment
  export WORK=$BATS_FILE_TMPDIR DOCKER=buildah STANDIN TAG=t
  export BASE_IMAGE=$STANDIN BUILD_ARGS="--isolation chroot --network host"
  # This machine's certificates, as long as a build lasts: its network may need them.
  if [[ -f /etc/ssl/certs/ca-certificates.crt ]]; then
    BUILD_ARGS+=" --volume /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro"
  fi
  mirror
  plant
  # own_environment unsets them before each test.
  declare -p DOCKER TAG BASE_IMAGE BUILD_ARGS AZCOPY_URL AZCOPY_SHA256 BACKBONE_URL BACKBONE_SHA256 |
    sed "s/^declare -x/export/" >"$WORK/settings"
  (cd "$WORK/checkout" && scripts/build_images.sh) >"$WORK/build.log" 2>&1 || {
    cat "$WORK/build.log" >&2
    return 1
  }
}

teardown_file() {
  [[ ! -f ${WORK:-}/mirror.pid ]] || kill "$(<"$WORK/mirror.pid")"
  if [[ -n ${STANDIN:-} ]]; then
    buildah rm --all >/dev/null
    # Those that another one is made of come in the next round.
    for _ in {1..5}; do
      buildah images --all --quiet --no-trunc | grep -v "$(buildah inspect --type image --format '{{.FromImageID}}' "$STANDIN")" |
        xargs -r buildah rmi --force >/dev/null 2>&1 || true
    done
  fi
}

# What the images download beside packages: the real azcopy in an archive like its release, and ResNet18's weights, which
# are not the trained ones.
mirror() {
  local folder=$WORK/mirror port
  mkdir -p "$folder/azcopy_linux_amd64"
  cp "$REPO/tests/node_modules/@azure-tools/azcopy-linux/dist/bin/azcopy_linux_amd64" "$folder/azcopy_linux_amd64/azcopy"
  tar -czf "$folder/azcopy.tar.gz" -C "$folder" azcopy_linux_amd64
  "$REPO/.venv/bin/python" -c 'import sys, torch, torchvision
torch.manual_seed(0)
torch.save(torchvision.models.resnet18().state_dict(), sys.argv[1])' "$folder/resnet18-f37072fd.pth"
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  python3 -m http.server --bind 127.0.0.1 --directory "$folder" "$port" >/dev/null 2>&1 3>&- &
  echo $! >"$WORK/mirror.pid"
  export AZCOPY_URL=http://127.0.0.1:$port/azcopy.tar.gz BACKBONE_URL=http://127.0.0.1:$port/resnet18-f37072fd.pth
  AZCOPY_SHA256=$(sha256sum "$folder/azcopy.tar.gz" | cut -d ' ' -f 1)
  BACKBONE_SHA256=$(sha256sum "$folder/resnet18-f37072fd.pth" | cut -d ' ' -f 1)
  export AZCOPY_SHA256 BACKBONE_SHA256
}

# A checkout with secrets wherever somebody may have left them.
plant() {
  local path
  mkdir -p "$WORK/checkout"
  cd "$WORK/checkout" || return
  (cd "$REPO" && git ls-files -z --cached --others --exclude-standard -- docker python scripts .dockerignore .gitignore \
    secrets.example.env | tar -c --null -T -) | tar -x
  for path in secrets.env .netrc outputs/train/wandb.log .venv/pip.conf python/secrets.env python/.env scripts/.netrc \
    python/id_rsa docker/secrets.env .aws/credentials python/outputs/log.txt scripts/secrets.env.bak; do
    mkdir -p "$(dirname "$path")"
    echo "$MARKER" >"$path"
  done
  chmod 600 secrets.env
  git init -q .
  git add -f scripts python docker
  commit "$MARKER"
}

# in_image train|eval [OPTION ...] -- COMMAND: a new container, with the network and the images' own user, as in a cluster.
# What COMMAND says goes through a file: buildah's chroot isolation ends without waiting for its relay of the output, and
# loses it on a busy machine (always with strace -e inject=ppoll:delay_exit=20000).
in_image() {
  local container status=0 options=() said=$BATS_TEST_TMPDIR/said
  mkdir -p "$said"
  chmod 777 "$said"
  container=$(buildah from "localhost/ur10e-act-$1:t")
  shift
  while [[ $1 != -- ]]; do
    options+=("$1")
    shift
  done
  shift
  # A name that resolves, as a cluster's do, and an end, should something wait for another in vain.
  timeout 600 buildah run --isolation chroot --hostname localhost --volume "$REPO/tests/fixtures/ur10e_v3_by_lerobot_0_4_4:/data:ro" \
    --volume "$WORK/output:/output" --volume "$said:/said" "${options[@]}" "$container" -- \
    sh -c 'exec "$@" >/said/words 2>&1' sh "$@" || status=$?
  buildah rm "$container" >/dev/null
  cat "$said/words"
  rm "$said/words"
  return "$status"
}

# refuses MESSAGE COMMAND ...: COMMAND, a build, fails and says so; built again when the words were lost as above.
refuses() {
  for _ in 1 2 3; do
    run "${@:2}"
    [ "$status" -ne 0 ]
    [[ $output != *"$1"* ]] || return 0
  done
  assert_says "$1"
}

# digests IMAGE: its layers, lowest first.
digests() {
  buildah inspect --type image --format '{{range .OCIv1.RootFS.DiffIDs}}{{println .}}{{end}}' "$1" | grep sha256
}

setup() {
  own_environment
  # shellcheck source=/dev/null # written by setup_file
  source "$WORK/settings"
  mkdir -p "$WORK/output"
  # Like OSMO's folders for outputs.
  chmod 777 "$WORK/output"
}

@test "the base's torch is not replaced: the check at the end of the build says so, and so does the image" {
  grep -q '^kept from the base:.* torch 2.6.0+debian' "$WORK/build.log"
  grep -q '^kept from the base:.* packaging 25.0 .*psutil 7.0.0' "$WORK/build.log"
  for image in train eval; do
    run in_image "$image" -- sh -c 'python3 docker/check_image.py verify docker/base.json &&
      python3 -c "import torch; print(torch.__file__)" && ls /opt/venv/lib/python3*/site-packages'
    [ "$status" -eq 0 ]
    assert_says "as in the base, and lerobot, av and pyarrow are there"
    assert_says "torch 2.6.0+debian"
    assert_says "/usr/lib/python3/dist-packages/torch/"
    assert_says "lerobot-0.3.2"
    run ! grep -E '^(torch|nvidia|triton)' <<<"${output#*dist-packages}"
  done
}

@test "two processes train two steps in the image, from baked-in weights, and the eval image evaluates what they wrote" {
  # Without any way to download weights: the baked-in ones must do.
  run in_image train --env DATA=/data --env OUTPUT=/output/train --env GPUS=2 --env OMP_NUM_THREADS=1 \
    --env CONFIG=python/config.smoke.yaml --env https_proxy=http://127.0.0.1:1 --env OVERRIDES="training.steps=2
      training.warmup_steps=0 training.val_every=2 training.save_every=2 training.batch_size=2 data.num_workers=0
      data.image_size=[48,64] data.episodes=[0,1] model.dim_model=32
      model.pretrained_backbone_weights=ResNet18_Weights.IMAGENET1K_V1" -- scripts/train.sh
  [ "$status" -eq 0 ]
  assert_says "world_size=2"
  assert_says "train step=2/2"
  [ -f "$WORK/output/train/checkpoints/last/pretrained_model/model.safetensors" ]
  run in_image eval --env DATA=/data --env CHECKPOINT=/output/train --env OUTPUT=/output/eval -- scripts/eval.sh
  [ "$status" -eq 0 ]
  [ -f "$WORK/output/eval/all_episodes.parquet" ]
  "$REPO/.venv/bin/python" -c 'import json, sys; assert json.load(open(sys.argv[1]))' "$WORK/output/eval/summary.json"
  run in_image eval --env TRAIN=/output/train --env EVAL=/output/eval --env REPORT=/output/report.html -- scripts/report.sh
  [ "$status" -eq 0 ]
  [ -s "$WORK/output/report.html" ]
}

@test "the images run as another user than root, also as one that nobody has heard of; azcopy and fetch.sh work there" {
  for image in train eval; do
    run in_image "$image" -- sh -c 'id -u; azcopy --version; scripts/fetch.sh --help'
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = 1000 ]
    assert_says "azcopy version"
    assert_says "Usage: fetch.sh"
    run in_image "$image" --user 4321:0 --env LOCALPATH=/data -- \
      sh -c 'scripts/fetch.sh "$HOME/here" && python3 -c "import getpass; print(getpass.getuser())" && touch outputs/x /opt/torch/hub/checkpoints/x'
    [ "$status" -eq 0 ] || fail "$output"
    assert_says "/home/act/here"
    run ! in_image "$image" -- touch python/x
  done
  run buildah inspect --type image --format '{{.OCIv1.Config.Entrypoint}} {{.OCIv1.Config.WorkingDir}} {{.OCIv1.Config.Labels}}' \
    localhost/ur10e-act-train:t
  [[ $output == "[] /opt/ur10e-act "* ]] || fail "$output"
  assert_says "org.opencontainers.image.revision:$(git -C "$WORK/checkout" rev-parse HEAD)"
  assert_says "org.opencontainers.image.version:t"
}

@test "no planted secret, no certificate and no .git is in any layer or in the configuration" {
  digests "$STANDIN" >"$WORK/base"
  # What this machine's certificates have and the base's have not. A mount leaves a copy of the base's own in a layer.
  container=$(buildah from "$STANDIN")
  foreign=$(comm -23 <(sort -u /etc/ssl/certs/ca-certificates.crt) \
    <(sort -u "$(buildah mount "$container")/etc/ssl/certs/ca-certificates.crt") | head -n 1)
  buildah rm "$container" >/dev/null
  for image in train eval; do
    rm -f "$WORK/archive"
    buildah push --quiet "localhost/ur10e-act-$image:t" "docker-archive:$WORK/archive"
    run --separate-stderr python3 "$REPO/tests/scripts/image_layers.py" "$WORK/archive" "$WORK/base" "$MARKER" ${foreign:+"$foreign"}
    [ "$status" -eq 0 ] || fail "$stderr"
    found=$output
    run ! grep -E '(\.git|\.netrc|secrets\.env|outputs/.+|pip\.conf|\.part)$' <<<"$found"
    grep -qxF "path opt/ur10e-act/scripts/$image.sh" <<<"$found"
    # The last one is the code.
    echo "# $image: own layers, bytes and files: $(awk '/^layer/ { printf "%s %s, ", $2, $3 }' <<<"$found")" >&3
  done
  # That the search can find something.
  run --separate-stderr python3 "$REPO/tests/scripts/image_layers.py" "$WORK/archive" "$WORK/base" "Summary: judge a checkpoint"
  [ "$status" -eq 1 ]
  [[ $stderr == *"scripts/eval.sh"* ]]
  rm "$WORK/archive"
}

@test "a change of the code makes one small layer again; both images share the others" {
  before=$(digests localhost/ur10e-act-train:t)
  [ "$(comm -12 <(sort <<<"$before") <(digests localhost/ur10e-act-eval:t | sort) | wc -l)" -ge "$(($(wc -l <<<"$before") - 2))" ]
  cd "$WORK/checkout"
  echo "# changed" >>python/train.py
  start=${EPOCHREALTIME/[.,]/}
  IMAGE=train run scripts/build_images.sh
  [ "$status" -eq 0 ]
  echo "# rebuild after a change of the code: $(((${EPOCHREALTIME/[.,]/} - start) / 1000)) ms" >&3
  after=$(digests localhost/ur10e-act-train:t)
  [ "$(head -n -1 <<<"$before")" = "$(head -n -1 <<<"$after")" ]
  [ "$(tail -n 1 <<<"$before")" != "$(tail -n 1 <<<"$after")" ]
  [ "$(in_image train -- tail -n 1 python/train.py)" = "# changed" ]
}

# The Dockerfile itself, with few packages so that it is quick.
few_packages() {
  cp -R "$WORK/checkout" "$BATS_TEST_TMPDIR/few"
  cd "$BATS_TEST_TMPDIR/few" || return
  awk '/^[a-z]/ { wanted = /^(tqdm|torch|torchvision)==/ } wanted' "$REPO/python/requirements.lock" >python/requirements.lock
}

@test "a package that wants another torch ends the build" {
  few_packages
  other=$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' python/requirements.lock)
  IMAGE=eval TAG=bad EXTRA_PACKAGES=$other refuses onflict scripts/build_images.sh
  [ "$status" -eq 2 ]
  assert_says "$other"
  run ! buildah inspect --type image localhost/ur10e-act-eval:bad
}

@test "a torchvision in place of the base's ends the build, though its version is the same" {
  mkdir "$BATS_TEST_TMPDIR/replaced"
  cat >"$BATS_TEST_TMPDIR/replaced/Dockerfile" <<'DOCKERFILE'
FROM localhost/ur10e-act-eval:t
USER root
RUN cp -r /usr/lib/python3/dist-packages/torchvision* /opt/venv/lib/python3*/site-packages/
RUN python3 docker/check_image.py verify docker/base.json
DOCKERFILE
  refuses "check_image.py: torchvision: folder was /usr/lib/python3/dist-packages/torchvision in the base and is /opt/venv" \
    buildah build --isolation chroot "$BATS_TEST_TMPDIR/replaced"
}

@test "weights or an azcopy that are other files than pinned end the build" {
  cd "$WORK/checkout"
  BACKBONE_SHA256=${AZCOPY_SHA256} IMAGE=train TAG=bad refuses "it is another file" scripts/build_images.sh
  [ "$status" -eq 2 ]
  AZCOPY_SHA256=${BACKBONE_SHA256} IMAGE=eval TAG=bad refuses "it is another file" scripts/build_images.sh
  [ "$status" -eq 2 ]
}
