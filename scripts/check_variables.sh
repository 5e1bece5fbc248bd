#!/usr/bin/env bash
# Summary: check that the variables given on make's command line are read by the targets to be made
# Usage: check_variables.sh TARGET ... -- NAME ...
# Prints nothing, or one line about the first NAME that no TARGET reads. What a target reads is what the headers of its
# scripts list, so that there is one list: "#   NAME  text", or "# Also reads what OTHER.sh reads.". Runs before .venv
# exists, so without Python.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
help_wanted "$@"

targets=()
while (($# > 0)) && [[ $1 != -- ]]; do
  targets+=("$1")
  shift
done
shift || true

# scripts_of TARGET: the scripts in its recipe, and setup.sh where setup is one of its prerequisites.
scripts_of() {
  awk -v target="$1" '
    /^[a-z][a-z -]*:/ {
      names = $0
      sub(/:.*/, "", names)
      wanted = (" " names " ") ~ (" " target " ")
      if (wanted && ($0 ~ /:.* setup( |$)/)) print "setup.sh"
    }
    /^\t/ && wanted {
      while (match($0, /scripts\/[a-z_]+\.sh/)) {
        print substr($0, RSTART + 8, RLENGTH - 8)
        $0 = substr($0, RSTART + RLENGTH)
      }
    }' "$ROOT/Makefile"
}

# read_by SCRIPT: the names in its header, and in those of the scripts that it names as read, too.
read_by() {
  local header other
  header=$(sed -n '/^# Summary: /,/^[^#]/p' "$ROOT/scripts/$1")
  awk '/^#   / { for (i = 2; i <= NF && $i ~ /^[A-Z][A-Z0-9_]+(=.*)?$/; i++) { sub(/=.*/, "", $i); print $i } }' <<<"$header"
  if grep -qF "/scripts/secrets_file.sh\"" "$ROOT/scripts/$1"; then
    sed -nE 's/^#? ?([A-Z][A-Z0-9_]*)=.*/\1/p' "$ROOT/secrets.example.env"
    printf 'SECRETS\n'
  fi
  while IFS= read -r other; do
    read_by "$other"
  done < <(sed -nE 's/^# Also reads what ([a-z_]+\.sh) reads\.$/\1/p' <<<"$header")
}

# An unknown target is make's to report.
for target in "${targets[@]}"; do
  grep -qE "^([a-z-]+ )*$target( [a-z-]+)*:" "$ROOT/Makefile" || exit 0
done

known=$(
  for target in "${targets[@]}"; do
    while IFS= read -r script; do
      read_by "$script"
    done < <(scripts_of "$target")
  done | sort -u
)

is_known() {
  grep -qxF -- "$1" <<<"$known"
}

# renamed NAME: what it is called now; several meanings got names of their own.
renamed() {
  case $1 in
    CPUS | MEMORY) printf 'NODE_%s\n' "$1" ;;
    STORAGE) printf 'NODE_DISK\n' ;;
    BAG | RECORDINGS) printf 'BAGS\n' ;;
    IMAGE) printf 'TRAIN_IMAGE\n' ;;
    DATA) printf 'SOURCE\n' ;;
    RESUME) printf 'RESUME_FROM\n' ;;
    OUTPUT) printf 'STORAGE_URL\nREPORT\n' ;;
  esac
}

# nearest NAME: the known name with the fewest letters to change, where these are few.
nearest() {
  awk -v name="$1" '
    function least(a, b) { return a < b ? a : b }
    function distance(a, b,    i, j, cost, d) {
      for (i = 0; i <= length(a); i++) d[i, 0] = i
      for (j = 0; j <= length(b); j++) d[0, j] = j
      for (i = 1; i <= length(a); i++)
        for (j = 1; j <= length(b); j++) {
          cost = substr(a, i, 1) != substr(b, j, 1)
          d[i, j] = least(least(d[i - 1, j], d[i, j - 1]) + 1, d[i - 1, j - 1] + cost)
        }
      return d[length(a), length(b)]
    }
    BEGIN { best = length(name) / 2 }
    $0 != "" && (n = distance(toupper(name), $0)) <= best && (found == "" || n < best) { best = n; found = $0 }
    END { print found }' <<<"$known"
}

for name in "$@"; do
  # Settings of libraries reach these by the environment.
  [[ ! $name =~ ^(CUDA|NCCL|TORCH|OMP|WANDB|HF|AZCOPY|AZURE|PIP)_ && ! $name =~ ^(SHELL|MAKE.*|[a-z_]*)$ ]] || continue
  is_known "$name" && continue
  suggestion=
  while IFS= read -r candidate; do
    if [[ -n $candidate && -z $suggestion ]] && is_known "$candidate"; then
      suggestion="; did you mean $candidate?"
    fi
  done < <(renamed "$name" && nearest "$name")
  if [[ -z $suggestion ]]; then
    suggestion="; it reads ${known//$'\n'/ }"
    [[ -n $known ]] || suggestion="; it reads none"
  fi
  printf 'make %s does not read %s%s\n' "${targets[*]}" "$name" "$suggestion"
  exit
done
