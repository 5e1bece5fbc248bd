# shellcheck shell=bash
# Reading secrets.env; sourced, never run.

# load_secrets: exports what SECRETS (secrets.env) holds and the environment has not set already. Lines are KEY=VALUE
# with a KEY of secrets.example.env; the value is everything behind the first =, less one pair of quotes around it.
# Nothing in the file is executed, and no value is printed.
load_secrets() {
  local - file line name value mode number=0
  set +x
  file=${SECRETS:-$ROOT/secrets.env}
  if [[ ! -e $file ]]; then
    [[ -z ${SECRETS:-} ]] || die "SECRETS=$file is not there: copy secrets.example.env to it"
    return 0
  fi
  mode=$(stat -L -c %a -- "$file")
  [[ $mode == 600 ]] || die "$file can be read by others (mode $mode): chmod 600 $file"
  [[ -r $file ]] || die "$file cannot be read: it belongs to another user"
  while IFS= read -r line || [[ -n $line ]]; do
    number=$((number + 1))
    line=${line%$'\r'}
    [[ -n ${line//[[:blank:]]/} && ! $line =~ ^[[:blank:]]*# ]] || continue
    [[ $line =~ ^([A-Z][A-Z0-9_]*)=(.*)$ ]] || die "$file, line $number is not KEY=VALUE: fix that line"
    name=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]}
    grep -qE "^#? ?$name=" "$ROOT/secrets.example.env" ||
      die "$file, line $number: $name is not in secrets.example.env: remove or rename it"
    case $value in
      \"*\") value=${value:1:${#value}-2} ;;
      \'*\') value=${value:1:${#value}-2} ;;
      [\"\']*) die "$file, line $number: the quote before the value of $name has no end" ;;
    esac
    if [[ -n $value && -z ${!name:-} ]]; then
      export "$name=$value"
    fi
  done <"$file"
}
