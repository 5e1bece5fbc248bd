#!/usr/bin/env bash
# Summary: upload a checkpoint or metrics to Azure Blob so that a half upload can be told from a whole one
# Usage: publish.sh [--prune] DIR DEST
#   scripts/publish.sh outputs/train models/reach/run-7
#
#   DIR   the folder; links in it are kept as links, links that lead out of it are followed
#   DEST  CONTAINER/PREFIX, https://HOST/CONTAINER/PREFIX or azure://ACCOUNT/CONTAINER/PREFIX
#   --prune  remove from DEST what publish.sh had put there before and DIR has no more
# Only what differs is sent. Nothing else is deleted at DEST. The manifest is written last; fetch.sh --manifest DEST wants it.
# Variables and secrets.env are described in secrets.example.env. Prints the URL on stdout, everything else on stderr.
# Exit status: 0; 2: bad input, fix it; 75: temporary failure, retry; 128 + N: ended by signal N.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/secrets_file.sh
source "$ROOT/scripts/secrets_file.sh"
help_wanted "$@"

load_secrets
python=$(project_python)
exec "$python" -m ur10e_act.blob.publish "$@"
