#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2154 # every test is a subshell; output, status and stderr are set by bats
load test_helper
load builder
load standin

setup() {
  own_environment
  checkout
  export REGISTRY=reg.example.org/robots
}

built() {
  scripts/build_images.sh >/dev/null 2>&1
  : >"$CALLS"
}

digest_of() {
  printf '%s' "$1" | sha256sum | cut -d ' ' -f 1
}

@test "what was built for this machine gets the registry's name; name and digest are printed" {
  for DOCKER in docker podman buildah; do
    export DOCKER
    rm -f "$BATS_TEST_TMPDIR/images"
    builder "$DOCKER"
    REGISTRY="" built
    run --separate-stderr scripts/push_images.sh
    [ "$status" -eq 0 ] || fail "$stderr"
    [ "$output" = "$REGISTRY/ur10e-act-train@sha256:$(digest_of "$REGISTRY/ur10e-act-train:v1")
$REGISTRY/ur10e-act-eval@sha256:$(digest_of "$REGISTRY/ur10e-act-eval:v1")" ]
    grep -qxF "tag [localhost/ur10e-act-eval:v1] [$REGISTRY/ur10e-act-eval:v1]" "$CALLS"
  done
}

@test "what was built under the registry's name is pushed as it is; IMAGE and PUSH_ARGS" {
  builder podman
  export DOCKER=podman IMAGE=eval TAG=x PUSH_ARGS=--tls-verify=false
  built
  run --separate-stderr scripts/push_images.sh
  [ "$status" -eq 0 ]
  [[ ${#lines[@]} -eq 1 && $output == $REGISTRY/ur10e-act-eval@sha256:* ]]
  run ! grep -q '^tag' "$CALLS"
  grep -qE '^push \[--digestfile\] \[[^]]*\] \[--tls-verify=false\]' "$CALLS"
}

@test "REGISTRY comes from secrets.env, and nothing else of it reaches the builder" {
  builder docker
  REGISTRY="" built
  cp "$REPO/secrets.example.env" .
  printf 'REGISTRY=other.example.org/x\nAZURE_STORAGE_ACCOUNT_KEY=a2V5\n' >secrets.env
  chmod 600 secrets.env
  printf '#!/usr/bin/env bash\nenv >"%s"\nexec "%s" "$@"\n' "$HOME/env" "$(command -v docker)" >"$HOME/docker"
  chmod +x "$HOME/docker"
  IMAGE=train TAG=v1 REGISTRY="" DOCKER=$HOME/docker run --separate-stderr scripts/push_images.sh
  [ "$status" -eq 0 ] || fail "$stderr"
  [[ $output == other.example.org/x/ur10e-act-train@sha256:* ]]
  grep -q '^TAG=v1' "$HOME/env"
  run ! grep -q AZURE_STORAGE "$HOME/env"
  chmod 644 secrets.env
  REGISTRY="" run --separate-stderr scripts/push_images.sh
  assert_refused "chmod 600"
}

@test "no registry, a malformed one, nothing built: one line, and nothing is pushed" {
  builder docker
  REGISTRY="" run --separate-stderr scripts/push_images.sh
  assert_refused "REGISTRY is not set"
  REGISTRY=reg.example.org/ run --separate-stderr scripts/push_images.sh
  assert_refused "a / at the end"
  TAG=x run --separate-stderr scripts/push_images.sh
  assert_refused "make build-images TAG=x"
  IMAGE=train TAG=x scripts/build_images.sh
  TAG=x run --separate-stderr scripts/push_images.sh
  assert_refused "ur10e-act-eval:x is not here"
  run ! grep -q '^push' "$CALLS"
}

@test "a push that fails ends in one line that says why" {
  builder docker
  built
  export BUILDER_SAYS
  refused() {
    run --separate-stderr scripts/push_images.sh
    [ "$status" -eq 2 ]
    [[ -z $output && ${#stderr_lines[@]} -eq 2 ]] || fail "$stderr"
    [[ ${stderr_lines[1]} == "push_images.sh: $REGISTRY/ur10e-act-train:v1: "*"$1"* ]] || fail "$stderr"
  }
  BUILDER_SAYS="denied: requested access to the resource is denied"
  refused "docker login reg.example.org"
  BUILDER_SAYS=$'Error: trying to reuse blob\nunauthorized: authentication required'
  refused "docker login reg.example.org"
  BUILDER_SAYS="dial tcp: lookup reg.example.org: no such host"
  refused "cannot be reached"
  BUILDER_SAYS="http: server gave HTTP response to HTTPS client"
  refused "has no TLS"
  BUILDER_SAYS=$'one line\nblob upload invalid'
  refused "blob upload invalid"
}

# A real registry, which wants a login.
start_registry() {
  local tries
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  # shellcheck disable=SC2016 # perl's
  printf 'robot:%s\n' "$(perl -e 'print crypt("s3cret", q($2y$05$abcdefghijklmnopqrstuu))')" >"$BATS_TEST_TMPDIR/htpasswd"
  cat >"$BATS_TEST_TMPDIR/registry.yml" <<YAML
version: 0.1
storage: {filesystem: {rootdirectory: $BATS_TEST_TMPDIR/registry}}
http: {addr: "127.0.0.1:$port"}
auth: {htpasswd: {realm: test, path: $BATS_TEST_TMPDIR/htpasswd}}
YAML
  # It takes REGISTRY_... of the environment for settings.
  env -i PATH="$PATH" docker-registry serve "$BATS_TEST_TMPDIR/registry.yml" >"$BATS_TEST_TMPDIR/registry.log" 2>&1 3>&- &
  REGISTRY_PID=$!
  for ((tries = 0; tries < 100; tries++)); do
    ! curl -s -o /dev/null "http://127.0.0.1:$port/v2/" || return 0
    sleep 0.1
  done
  fail "the registry does not start: $(<"$BATS_TEST_TMPDIR/registry.log")"
}

teardown() {
  [[ -z ${REGISTRY_PID:-} ]] || kill "$REGISTRY_PID" || true
  [[ ! -d $BATS_TEST_TMPDIR/storage ]] || buildah rmi --all --force >/dev/null
}

# bats test_tags=slow
@test "a real registry, by a real builder: refused without login, then pushed, with the digest that it tells" {
  reason=$(need_builder docker-registry) || skip "no real push: $reason"
  use_storage "$BATS_TEST_TMPDIR/storage" || skip "no real push: buildah has no storage driver that works here"
  export DOCKER=buildah REGISTRY_AUTH_FILE=$BATS_TEST_TMPDIR/auth.json TAG=v1
  echo "{}" >"$REGISTRY_AUTH_FILE"
  start_registry
  mkdir "$BATS_TEST_TMPDIR/context"
  cp README.md "$BATS_TEST_TMPDIR/context" 2>/dev/null || cp Makefile "$BATS_TEST_TMPDIR/context/README.md"
  printf 'FROM scratch\nCOPY README.md /\n' >"$BATS_TEST_TMPDIR/context/Dockerfile"
  for image in train eval; do
    buildah build --quiet --tag "localhost/ur10e-act-$image:v1" "$BATS_TEST_TMPDIR/context"
  done

  REGISTRY=127.0.0.1:$port/robots run --separate-stderr scripts/push_images.sh
  [[ $status -eq 2 && $stderr == *"has no TLS: PUSH_ARGS=--tls-verify=false"* ]] || fail "$stderr"
  export PUSH_ARGS=--tls-verify=false
  REGISTRY=127.0.0.1:$port/robots run --separate-stderr scripts/push_images.sh
  [[ $status -eq 2 && $stderr == *"buildah login 127.0.0.1:$port"* ]] || fail "$stderr"
  REGISTRY=127.0.0.1:1/robots run --separate-stderr scripts/push_images.sh
  [[ $status -eq 2 && $stderr == *"cannot be reached"* ]] || fail "$stderr"

  buildah login --tls-verify=false --username robot --password-stdin "127.0.0.1:$port" <<<s3cret
  REGISTRY=127.0.0.1:$port/robots run --separate-stderr scripts/push_images.sh
  [ "$status" -eq 0 ] || fail "$stderr"
  [ "${#lines[@]}" -eq 2 ]
  for line in "${lines[@]}"; do
    repository=${line#*/} digest=${line#*@}
    run curl -sfI -u robot:s3cret -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
      "http://127.0.0.1:$port/v2/${repository%@*}/manifests/v1"
    [ "$status" -eq 0 ]
    [[ ${output,,} == *"docker-content-digest: $digest"* ]] || fail "$digest is not in: $output"
  done
}
